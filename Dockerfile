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
    && /opt/relink/bin/pip install --no-cache-dir -c constraints.txt -r requirements.txt \
    # Tests, sources and stubs of libraries: nothing reads them.
    && find /opt/relink/lib -type d -name tests -prune -exec rm -r {} + \
    && find /opt/relink/lib -regex '.*\.\(c\|h\|pxd\|pyi\|pyx\)' -delete
COPY . .
RUN /opt/relink/bin/pip install --no-cache-dir --no-deps -c constraints.txt . \
    && /opt/relink/bin/pip uninstall --yes setuptools pip

# Open vSwitch's daemons for bridges of mode ovs. Debian's package brings a second Python for its
# scripts; taken from it are the programs, what they are linked to, and the schema of their database.
FROM debian:bookworm-slim AS ovs
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openvswitch-switch \
    && mkdir -p /out/usr/bin /out/usr/lib /out/usr/share/openvswitch \
    && cp /usr/share/openvswitch/vswitch.ovsschema /out/usr/share/openvswitch/ \
    && for name in ovsdb-tool ovsdb-server ovs-vswitchd ovs-vsctl ovs-ofctl ovs-appctl; do \
           cp -L "$(command -v $name)" /out/usr/bin/ && ldd "/out/usr/bin/$name"; \
       done > linked \
    # The base has its own C library, OpenSSL (for Python) and zlib.
    && awk '$2 == "=>" && $1 !~ /^lib(c|m|z|ssl|crypto)\.so/ { print $3 }' linked | sort -u \
       | xargs cp -L -t /out/usr/lib

# wait and copy, for containers to be wired: scripts, and programs for images without a shell.
FROM debian:bookworm-slim AS tools
RUN apt-get update && apt-get install --yes --no-install-recommends musl-tools
COPY tools /src
RUN /src/build /out && cp /src/*.sh /out

FROM python:3.11-slim-bookworm
# nft is used by the sidecar, ethtool for settings without a typed form; ip, tc and tcpdump are for
# people who look into it.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ethtool iproute2 nftables tcpdump \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/relink /opt/relink
COPY --from=ovs /out/ /
COPY --from=tools /out/ /tools/
RUN ovs-vswitchd --version && ovsdb-server --version
# The names that these have in conlink's image.
RUN mkdir -p /app/build && ln -s /opt/relink/bin/reconcile /app/build/conlink.js && ln -s /tools /utils
# At the end, so that another commit makes no other layer: `make image` gives them.
ARG SOURCE=""
ARG REVISION=""
ARG VERSION="0.1.0"
LABEL org.opencontainers.image.title="relink" \
      org.opencontainers.image.description="Keeps the network of containers exactly as declared." \
      org.opencontainers.image.licenses="MPL-2.0" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.version="$VERSION"
ENV PATH=/opt/relink/bin:$PATH PYTHONUNBUFFERED=1
HEALTHCHECK --interval=5s --timeout=5s --start-period=10s --retries=2 \
    CMD ["reconcile", "status", "--check"]
CMD ["reconcile"]
