.PHONY: help install demo lint test faults docs image bench clean

help:
	@echo "make install   put everything into .venv; the command is .venv/bin/reconcile"
	@echo "make demo      one minute of Relink, without Docker and without root"
	@echo "make lint      style and types"
	@echo "make test      everything: lint, here and (as root) on two more kernels, Docker and podman"
	@echo "               some of it: scripts/test lint unit package uml docker qemu docs coverage ledger"
	@echo "make faults    the long form of the tests of reliability, as root: under an hour; RELIABILITY.md"
	@echo "make docs      the documentation site, into .cache/site"
	@echo "make image     the image relink, labelled with the commit it was made of"
	@echo "make bench     the figures, each beside a floor measured in the same run"
	@echo "make clean     remove what the others made here"

install:
	@scripts/prepare

# Namespaces of its own: a user namespace makes it work without root, and nothing here is touched.
demo: install
	@unshare --user --map-root-user --net --mount --propagation private \
	    sh -c 'mount -t tmpfs tmpfs /run && mkdir -p /run/netns && ip link set lo up && \
	           PYTHONPATH=. exec .venv/bin/python scripts/demo.py'

.test-tools:
	@scripts/prepare test

lint: .test-tools
	@scripts/test lint

test: .test-tools
	@scripts/test

faults: .test-tools
	@scripts/faults

docs: .test-tools
	@scripts/docs
	@echo "To read it: .venv/bin/python -m http.server --directory .cache/site --bind 127.0.0.1"

image:
	docker build --build-arg REVISION="$$(git rev-parse HEAD)" \
	    --build-arg SOURCE="$$(git config --get remote.origin.url)" --tag relink .

bench: install
	@mkdir -p .cache
	.venv/bin/python -m bench --json .cache/bench.json

clean:
	rm -rf .venv .cache .coverage* .mypy_cache .pytest_cache .ruff_cache *.egg-info build dist
.PHONY: .test-tools
