"""Named network namespaces as containers: real ones, in a directory of the test's own."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from observers import plain
from observers.inotify import Inotify
from observers.plain import Plain
from observers.runtimes import Changed, Connected, Doorbell

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("ip"),
        reason="needs root and iproute2; .ci/run runs it",
    ),
]

PREFIX = f"rlt-{os.getpid()}-"


class Names:
    """Namespaces mounted in a private directory, the way ip-netns(8) does it: file, then mount."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def touch(self, name: str) -> Path:
        path = self.directory / name
        path.touch(exist_ok=False)
        return path

    def mount(self, name: str) -> None:
        path = self.directory / name
        subprocess.run(["unshare", f"--net={path}", "true"], check=True)

    def add(self, name: str) -> None:
        self.touch(name)
        self.mount(name)

    def remove(self, name: str) -> None:
        subprocess.run(["umount", "--lazy", str(self.directory / name)], check=False)
        (self.directory / name).unlink()


@pytest.fixture
def names(tmp_path: Path) -> Iterator[Names]:
    directory = tmp_path / "run" / "netns"
    directory.mkdir(parents=True)
    names = Names(directory)
    yield names
    if directory.exists():
        for path in directory.iterdir():
            subprocess.run(["umount", "--lazy", str(path)], check=False, capture_output=True)


@contextlib.contextmanager
def watching(directory: Path) -> Iterator[queue.Queue[Doorbell]]:
    rung: queue.Queue[Doorbell] = queue.Queue()
    stop = threading.Event()
    before = len(list(Path("/proc/self/fd").iterdir()))
    watcher = threading.Thread(target=Plain(str(directory)).watch, args=(rung.put, stop))
    watcher.start()
    try:
        yield rung
    finally:
        stop.set()
        watcher.join(1)
    assert not watcher.is_alive(), "watch must return soon after stop"
    assert len(list(Path("/proc/self/fd").iterdir())) == before, "every descriptor must be released"


def heard(bells: queue.Queue[Doorbell], last: Doorbell) -> list[Doorbell]:
    """Return what rang up to and with `last`."""
    rung: list[Doorbell] = []
    while last not in rung:
        try:
            rung.append(bells.get(timeout=5))
        except queue.Empty:
            pytest.fail(f"waited for {last}, heard {rung}")
    return rung


def test_mounted_namespaces_are_containers_and_nothing_else_is(names: Names) -> None:
    for name in ("web", "node_12", "a_b_1", "zero_0", "relink-lab"):
        names.add(name)
    names.touch("half-made")
    (names.directory / "directory").mkdir()
    runtime = Plain(str(names.directory))

    listed = runtime.list()

    assert [(c.id, c.service, c.number) for c in listed] == [
        ("a_b_1", "a_b", 1),
        ("node_12", "node", 12),
        ("web", "", 1),
        ("zero_0", "", 1),
    ]
    web = listed[2]
    assert (web.name, web.runtime, web.pid, web.project) == ("web", "netns", 0, "")
    assert web.netns == str(names.directory / "web")
    assert runtime.find("web") == web


@pytest.mark.parametrize("name", ["none", "half-made", "relink-lab", "", ".", "..", "../x", "a\0b"])
def test_what_is_no_namespace_is_not_found(names: Names, name: str) -> None:
    names.touch("half-made")
    names.add("relink-lab")
    assert Plain(str(names.directory)).find(name) is None


def test_a_missing_directory_is_an_empty_one(tmp_path: Path) -> None:
    assert Plain(str(tmp_path / "not" / "yet")).list() == []


def test_a_namespace_rings_when_it_is_mounted_and_not_before(names: Names) -> None:
    with watching(names.directory) as bells:
        assert bells.get(timeout=5) == Connected()
        names.touch("late")
        names.touch("never").unlink()
        names.add("other")
        assert heard(bells, Changed("other")) == [Changed("other")]
        names.mount("late")
        assert heard(bells, Changed("late")) == [Changed("late")]
        names.remove("late")
        assert heard(bells, Changed("late")) == [Changed("late")]
        assert Plain(str(names.directory)).find("late") is None


def test_a_file_from_before_the_watch_rings_when_it_is_mounted(names: Names) -> None:
    names.touch("early")
    with watching(names.directory) as bells:
        assert bells.get(timeout=5) == Connected()
        names.mount("early")
        assert heard(bells, Changed("early")) == [Changed("early")]


def test_the_pinned_data_planes_of_relink_never_ring(names: Names) -> None:
    with watching(names.directory) as bells:
        names.add("relink-lab")
        names.remove("relink-lab")
        names.add("web")
        assert heard(bells, Changed("web")) == [Connected(), Changed("web")]


def test_a_directory_that_comes_goes_and_comes_again_is_followed(names: Names) -> None:
    names.directory.rmdir()
    names.directory.parent.rmdir()
    with watching(names.directory) as bells:
        assert bells.get(timeout=5) == Connected(), "a missing directory is a complete, empty list"
        for name in ("one", "two"):
            names.directory.mkdir(parents=True)
            assert heard(bells, Connected()) == [Connected()]
            names.add(name)
            heard(bells, Changed(name))
            names.remove(name)
            heard(bells, Changed(name))
            names.directory.rmdir()
            assert heard(bells, Connected()) == [Connected()]
            names.directory.parent.rmdir()


def test_a_directory_made_while_a_parent_is_being_watched_is_followed(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent comes after it was looked for, and before its own parent is watched."""
    names.directory.rmdir()
    names.directory.parent.rmdir()
    grandparent = names.directory.parent.parent

    class Late(Inotify):
        def add(self, path: str | Path, mask: int) -> int:
            if path == grandparent:
                names.directory.parent.mkdir(exist_ok=True)
            return super().add(path, mask)

    monkeypatch.setattr(plain, "Inotify", Late)
    with watching(names.directory) as bells:
        assert bells.get(timeout=5) == Connected()
        names.directory.mkdir()
        assert heard(bells, Connected()) == [Connected()]


def test_a_file_system_mounted_over_the_directory_is_followed(names: Names) -> None:
    with watching(names.directory) as bells:
        assert bells.get(timeout=5) == Connected()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(names.directory)], check=True)
        try:
            assert heard(bells, Connected()) == [Connected()]
            names.add("web")
            assert heard(bells, Changed("web")) == [Changed("web")]
            names.remove("web")
        finally:
            subprocess.run(["umount", "--lazy", str(names.directory)], check=True)
        heard(bells, Connected())


def test_a_storm_that_overflows_the_queue_rings_connected(names: Names) -> None:
    """While the watcher is held in its callback, more happens than the kernel keeps."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    rung: queue.Queue[Doorbell] = queue.Queue()
    release, stop = threading.Event(), threading.Event()

    def ring(bell: Doorbell) -> None:
        rung.put(bell)
        if bell == Changed("first"):
            release.wait(60)

    watcher = threading.Thread(target=Plain(str(names.directory)).watch, args=(ring, stop))
    watcher.start()
    try:
        assert rung.get(timeout=5) == Connected()
        names.add("first")
        assert rung.get(timeout=5) == Changed("first")
        for n in range(limit // 2 + 10):  # alternating, because the kernel merges equal neighbours
            names.touch(f"{n}").unlink()
        names.add("last")
        release.set()
        heard(rung, Connected())
        assert [c.name for c in Plain(str(names.directory)).list()] == ["first", "last"]
    finally:
        release.set()
        stop.set()
        watcher.join(5)
    assert not watcher.is_alive()


def test_every_ip_netns_add_rings() -> None:
    """On the real directory: the mount comes a moment after the file (bench measures how late)."""
    with watching(Path("/run/netns")) as bells:
        assert bells.get(timeout=5) == Connected()
        for n in range(15):
            name = f"{PREFIX}{n}"
            subprocess.run(["ip", "netns", "add", name], check=True)
            try:
                heard(bells, Changed(name))
            finally:
                subprocess.run(["ip", "netns", "del", name], check=True)
            heard(bells, Changed(name))


def test_names_of_this_module_are_cleaned_up() -> None:
    assert list(Path("/run/netns").glob(f"{PREFIX}*")) == []
