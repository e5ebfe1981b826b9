"""Real namespaces for these tests: a mount namespace for the session, a data plane for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.lab import CLONE_NEWNET, Lab, private_run, sh, unshare


@pytest.fixture(scope="session")
def _private() -> None:
    private_run()


@pytest.fixture
def lab(_private: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    # What `auto` is depends on the machine; tests of that say so.
    monkeypatch.setenv("CONLINK_BRIDGE_MODE", "linux")
    unshare(CLONE_NEWNET)  # this test's data plane; the one before goes with its last socket
    sh("ip", "link", "set", "lo", "up")
    made = Lab(tmp_path)
    yield made
    made.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.kernel)
