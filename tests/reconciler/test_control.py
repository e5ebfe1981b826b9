"""The control socket is its owner's: whatever was there before, and whatever the umask is."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from reconciler import control
from reconciler.control import Control

STRANGER = 65534


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a directory for sockets that is not there yet."""
    where = tmp_path / "relink"
    monkeypatch.setattr(control, "directory", lambda: where)
    return where


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@asynccontextmanager
async def serving() -> AsyncIterator[Control]:
    made = Control("x", lambda: {"links": []}, lambda: b"")
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def served() -> None:
    """Serve and ask once."""

    async def whole() -> None:
        async with serving():
            assert await asyncio.to_thread(control.ask, "x") == {"links": []}

    asyncio.run(whole())


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_only_its_owner_may_connect_whatever_the_umask_is(place: Path, mask: int) -> None:
    async def modes() -> dict[str, int]:
        async with serving():
            files = [place, place / "x.sock", place / "x.lock"]
            return {file.name: stat.S_IMODE(file.stat().st_mode) for file in files}

    with umask(mask):
        assert asyncio.run(modes()) == {"relink": 0o700, "x.sock": 0o600, "x.lock": 0o600}
        assert os.umask(mask) == mask, "and what others of this process make is as before"


def test_a_socket_that_cannot_be_made_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = tmp_path / ("d" * 110)  # sun_path has 108 bytes: unix(7)
    monkeypatch.setattr(control, "directory", lambda: deep)
    with pytest.raises(OSError, match="AF_UNIX path too long") as caught:
        served()
    assert caught.value.filename == str(deep / "x.sock")


def _file(path: Path) -> None:
    path.write_text("mine")


def _link(path: Path) -> None:
    path.symlink_to(path.parent / "precious")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))


@pytest.mark.parametrize("left", [_file, _link, _socket])
def test_what_lies_at_its_path_gives_way_and_nothing_behind_it(
    place: Path, left: Callable[[Path], None]
) -> None:
    place.mkdir(mode=0o700)
    precious = place / "precious"
    precious.write_text("precious")
    left(place / "x.sock")
    served()
    assert precious.read_text() == "precious"


def test_a_directory_at_its_path_is_told(place: Path) -> None:
    (place / "x.sock").mkdir(parents=True)
    place.chmod(0o700)
    with pytest.raises(OSError, match=r"x\.sock"):
        served()


def test_a_lock_that_leads_elsewhere_is_not_followed(place: Path, tmp_path: Path) -> None:
    place.mkdir(mode=0o700)
    (place / "x.lock").symlink_to(tmp_path / "made")
    with pytest.raises(OSError, match=r"x\.lock"):
        served()
    assert not (tmp_path / "made").exists()


def _others(place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)


def _symlink(place: Path) -> None:
    (place.parent / "home").mkdir(mode=0o700)
    place.symlink_to(place.parent / "home")


def _strangers(place: Path) -> None:
    place.mkdir(mode=0o700)
    os.chown(place, STRANGER, STRANGER)


def _not_one(place: Path) -> None:
    place.write_text("")


DIRECTORIES = {
    "others may write there": _others,
    "not a directory": _symlink,
    "somebody else's directory": _strangers,
    "exists|not a directory": _not_one,
}


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory away, as only root can")
@pytest.mark.parametrize("why", DIRECTORIES)
def test_a_directory_that_is_not_its_owners_alone_is_not_used(place: Path, why: str) -> None:
    """Anybody may make the directory in /tmp that a Relink without root would make."""
    DIRECTORIES[why](place)
    before = sorted(place.parent.rglob("*"))
    with pytest.raises(OSError, match=why):
        served()
    assert sorted(place.parent.rglob("*")) == before, "nothing was made in it"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory away, as only root can")
@pytest.mark.parametrize("why", list(DIRECTORIES)[:3])
def test_nobody_else_is_asked_for_status(place: Path, why: str) -> None:
    DIRECTORIES[why](place)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(place / "x.sock"))
        door.listen()
        for question in (lambda: control.ask("x"), control.instances):
            with pytest.raises(OSError, match=why):
                question()
        door.settimeout(0)
        with pytest.raises(BlockingIOError):
            door.accept()


@pytest.mark.parametrize("name", ["..", "a/b", "../x", "", "x" * 65, "a\nb", "\x1b[2J", "\ud800"])
def test_an_instance_names_a_socket_in_its_directory_or_none(place: Path, name: str) -> None:
    assert not control.is_name(name) or control.path_of(name).parent == place


def test_a_sidecar_that_began_when_its_directory_could_be_written_is_still_the_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A disk that fails becomes read-only under who runs."""
    first, second = tmp_path / "run", tmp_path / "own"
    monkeypatch.setattr(control, "_candidates", lambda: [first, second])

    async def whole() -> None:
        monkeypatch.setattr(control, "directory", lambda: first)
        async with serving():
            monkeypatch.setattr(control, "directory", lambda: second)
            assert await asyncio.to_thread(control.ask, "x") == {"links": []}
            assert control.instances() == ["x"]
            with pytest.raises(control.AlreadyRunningError):
                await Control("x", dict, lambda: b"").start()
        async with serving():
            assert control.instances() == ["x"]

    asyncio.run(whole())


def test_a_place_that_was_never_used_keeps_nobody_from_being_told(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not place.exists()
    monkeypatch.setattr(control, "_candidates", lambda: [place, Path("/tmp") / ("x" * 200)])
    assert control.ask("x") is None
    assert control.instances() == []
