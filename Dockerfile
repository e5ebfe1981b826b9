# The sidecar:  docker build -t relink .
#
# In compose, `command: reconcile OPTIONS`; `command: /app/build/conlink.js OPTIONS`, as conlink's
# users have it, starts the same program.

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
# What Relink needs changes seldom, so it is a layer of its own.
COPY constraints.txt pyproject.toml ./
RUN python -c "import tomllib as t; print(*t.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
        > requirements.txt \
    && python -m venv /opt/relink \
    && /opt/relink/bin/pip install --no-cache-dir -c constraints.txt -r requirements.txt
COPY . .
RUN /opt/relink/bin/pip install --no-cache-dir --no-deps -c constraints.txt . \
    && /opt/relink/bin/pip uninstall --yes setuptools pip

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="relink" \
      org.opencontainers.image.description="Keeps the network of containers exactly as declared." \
      org.opencontainers.image.licenses="MPL-2.0"
# nft is used by the sidecar, ethtool for settings without a typed form; ip, tc and tcpdump are for
# people who look into it.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ethtool iproute2 nftables tcpdump \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/relink /opt/relink
RUN mkdir -p /app/build && ln -s /opt/relink/bin/reconcile /app/build/conlink.js
ENV PATH=/opt/relink/bin:$PATH PYTHONUNBUFFERED=1
HEALTHCHECK --interval=5s --timeout=5s --start-period=10s --retries=2 \
    CMD ["reconcile", "status", "--check"]
CMD ["reconcile"]
