"""One engine and one set of images for all tests in here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import engine, images


@pytest.fixture(scope="package")
def dockerd() -> Iterator[None]:
    """Have an engine: the one that answers, or one for the tests in here.

    Not for the session: an engine that another test starts on its own socket with `--bridge=none`
    deletes docker0 (20.10), whosever it is.
    """
    if why := engine.missing():
        pytest.skip(f"{why}; .ci/run runs it")
    engine.share_run_netns()
    with engine.dockerd():
        yield


@pytest.fixture(scope="package", autouse=True)
def lab(dockerd: None) -> None:  # noqa: ARG001 - the images are made by the engine
    """Have the images of the examples, and Relink's own as built from this source."""
    images.make_all()
