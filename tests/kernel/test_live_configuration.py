"""A file is edited while the sidecar runs: only the difference is applied, once it is whole."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from model import netlink as nl
from reconciler.control import ask
from tests.kernel.lab import Heard, Lab, Monitor, settings, sh
from tests.observers.test_runtimes_faults import FakeEngine, answer, quiet

NET = """
links:
- {service: node, bridge: s1, ip: 10.0.0.1/16, mtu: 1500, route: default via 10.0.255.1}
- {container: server, bridge: s1, ip: 10.0.255.1/16, outer-dev: server0}
- {container: server, bridge: s2, dev: eth1, ip: 10.2.0.1/24, outer-dev: server1}
"""
NARROW = NET.replace("mtu: 1500", "mtu: 1400")
BROKEN = NET.replace("10.2.0.1/24", "10.2.0.999/24")


def _in_place(file: Path, text: str) -> None:
    file.write_text(text)


def _by_rename(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


def _with_a_backup(file: Path, text: str) -> None:
    """As vim does: the old file is moved away first, and removed last."""
    backup = file.with_suffix(".yaml~")
    file.rename(backup)
    file.write_text(text)
    backup.unlink()


def _removed_and_made(file: Path, text: str) -> None:
    file.unlink()
    file.write_text(text)


def _slowly(file: Path, text: str) -> None:
    """In place, a line at a time: each beginning of it is a valid file that lacks links."""
    with file.open("w") as out:
        for line in text.splitlines(keepends=True):
            out.write(line)
            out.flush()
            time.sleep(0.02)  # a pause of a writer, which no event ends
    os.utime(file)


WAYS: dict[str, Callable[[Path, str], None]] = {
    "in place": _in_place,
    "by rename": _by_rename,
    "with a backup": _with_a_backup,
    "removed and made": _removed_and_made,
    "slowly": _slowly,
}


@pytest.fixture
def mounted(lab: Lab) -> Iterator[Callable[[Path], Path]]:
    """Mount something elsewhere, as an engine mounts into a container."""
    mounts: list[Path] = []

    def mount(what: Path) -> Path:
        where = lab.directory / f"mounted{what.suffix}"
        where.mkdir() if what.is_dir() else where.touch()
        sh("mount", "--bind", str(what), str(where))
        mounts.append(where)
        return where

    yield mount
    for where in mounts:
        sh("umount", str(where))


def _mtu(lab: Lab) -> int:
    return int((lab.link("node_1", "eth0") or {})["mtu"])


def _errors(lab: Lab) -> list[str]:
    return list((ask(lab.instance) or {})["configuration_errors"])


def _others(lab: Lab) -> list[object]:
    """All that may not change when a link of node_1 does."""
    places = (("server", "eth0"), ("server", "eth1"), ("", "server0"), ("", "server1"))
    return [settings(lab.link(ns, dev) or {}) for ns, dev in places]


@pytest.mark.parametrize("where", ["as it is", "in a mounted directory"])
def test_however_a_file_is_saved_only_the_difference_is_applied_in_place(
    lab: Lab, where: str, mounted: Callable[[Path], Path]
) -> None:
    lab.add("node_1", "server")
    directory = lab.directory / "declared"
    directory.mkdir()
    file = directory / "net.yaml"
    file.write_text(NET)
    seen = mounted(directory) / "net.yaml" if where == "in a mounted directory" else file
    with lab.sidecar("--interval", "3600", file=seen):
        lab.wait_for(lambda: "All links connected" in lab.log())
        lab.monitor.settle()
        index, others = lab.index("node_1", "eth0"), _others(lab)
        for way, save in WAYS.items():
            for text, mtu in ((NARROW, 1400), (NET, 1500)):
                save(file, text)
                lab.wait_for(lambda mtu=mtu: _mtu(lab) == mtu, why=f"{way} not applied")
                assert lab.index("node_1", "eth0") == index, way
                assert _others(lab) == others, way
        events = [e["event"] for e in lab.events()]
        assert events.count("configuration_loaded") == 2 * len(WAYS), "each was read once, whole"
        assert "configuration_refused" not in events


def test_a_change_writes_to_what_it_is_about_and_to_nothing_else(lab: Lab) -> None:
    lab.add("node_1", "node_2", "server")
    lab.config(NET)
    with lab.sidecar("--interval", "3600"):
        lab.wait_for(lambda: "All links connected" in lab.log())
        lab.monitor.settle()
        nodes = {lab.number("node_1"), lab.number("node_2")}
        server = lab.number("server")
        indexes = [lab.index("node_1", "eth0"), lab.index("node_2", "eth0")]

        lab.config(NET.replace("mtu: 1500", "mtu: 1400").replace("10.0.255.1}", "10.0.9.9}"))
        heard = _until(lab, lambda: "10.0.9.9" in lab.ip("node_2", "route", "show", "default"))
        assert {h.namespace for h in heard} <= {*nodes, -1}
        # The kernel itself lowers the bridge's MTU with that of its ports.
        concerned = {"node_1-eth0", "node_2-eth0", "s1"}
        assert {h.name for h in heard if h.namespace == -1} <= concerned
        assert [lab.index("node_1", "eth0"), lab.index("node_2", "eth0")] == indexes

        gone = "\n".join(line for line in NET.splitlines() if "eth1" not in line)
        gone = gone.replace("mtu: 1500", "mtu: 1400").replace("10.0.255.1}", "10.0.9.9}")
        lab.config(gone)
        heard = _until(lab, lambda: lab.link("server", "eth1") is None and not lab.link("", "s2"))
        assert {h.namespace for h in heard} <= {server, -1}
        assert {h.name for h in heard if h.name} <= {"eth1", "server1", "s2"}
        assert lab.addresses("server", "eth0") == {"10.0.255.1/16"}
        assert [lab.index("node_1", "eth0"), lab.index("node_2", "eth0")] == indexes


def _until(lab: Lab, what: Callable[[], bool]) -> list[Heard]:
    """Wait for something, and return what was heard until all is quiet, of links and addresses."""
    ear = Monitor()
    try:
        lab.wait_for(what)
        lab.monitor.settle()
        return [h for h in ear.heard() if h.kind in (nl.RTM_NEWLINK, nl.RTM_DELLINK, nl.RTM_NEWADDR,
                                                     nl.RTM_DELADDR)]  # fmt: skip
    finally:
        ear.close()


def test_several_files_saved_in_a_moment_are_one_change(lab: Lab) -> None:
    lab.add("node_1", "server")
    first, second = lab.directory / "net.yaml", lab.directory / "other.yaml"
    first.write_text(NET)
    second.write_text("links: [{container: server, dev: eth2, bridge: s3, ip: 10.3.0.1/24}]\n")
    with lab.sidecar("--interval", "3600", "--network-file", str(second)):
        lab.wait_for(lambda: "All links connected" in lab.log())
        # Each alone would make two links of one name; together they exchange it.
        first.write_text(NET.replace("dev: eth1", "dev: eth2"))
        second.write_text("links: [{container: server, dev: eth1, bridge: s3, ip: 10.3.0.1/24}]\n")
        lab.wait_for(
            lambda: (
                lab.addresses("server", "eth2") == {"10.2.0.1/24"}
                and lab.addresses("server", "eth1") == {"10.3.0.1/24"}
            )
        )
        events = [e["event"] for e in lab.events()]
        assert events.count("configuration_loaded") == 1
        assert "configuration_refused" not in events


def _chmod(file: Path, text: str) -> None:
    _in_place(file, text)
    os.chown(file, 65534, 65534)
    file.chmod(0o600)


WRONGS: dict[str, tuple[Callable[[Path, str], None], str]] = {
    "a fault": (lambda file, _: _in_place(file, BROKEN), "net.yaml:5:"),
    "not YAML": (lambda file, _: _by_rename(file, NET + "  - ]"), "net.yaml:6:"),
    "empty": (lambda file, _: _in_place(file, ""), "it is empty; write `links: []`"),
    "gone": (lambda file, _: file.unlink(), "cannot be read: No such file"),
    "unreadable": (_chmod, "cannot be read: Permission denied"),
}


def test_a_wrong_file_leaves_all_in_force_is_told_and_ends_with_a_right_one(lab: Lab) -> None:
    lab.add("node_1", "server")
    file = lab.config(NET)
    through = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
    with lab.sidecar("--interval", "3600", through=through):
        lab.wait_for(lambda: "All links connected" in lab.log())
        for number, (wrong, (spoil, told)) in enumerate(WRONGS.items(), 1):
            spoil(file, NET)
            lab.wait_for(lambda: _errors(lab), why=wrong)
            assert told in _errors(lab)[0], wrong
            refused = [e for e in lab.events() if e["event"] == "configuration_refused"]
            assert told in refused[-1]["problem"], wrong
            assert len(refused) == number, "told once"
            # What is in force is kept so.
            lab.ip("node_1", "link", "set", "eth0", "mtu", "1300")
            lab.wait_for(lambda: _mtu(lab) == 1500, why=wrong)
            file.unlink(missing_ok=True)
            lab.config(NET)
            lab.wait_for(lambda: not _errors(lab), why=wrong)
        assert not [e for e in lab.events() if e["event"] == "deleted"]


def test_a_change_that_cannot_be_read_at_its_time_is_read_at_the_next_tick(lab: Lab) -> None:
    lab.add("node_1", "server")
    lab.config(NET)
    with lab.sidecar("--interval", "1") as sidecar:
        lab.wait_for(lambda: "All links connected" in lab.log())
        before = resource.prlimit(sidecar.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(sidecar.pid, resource.RLIMIT_NOFILE, (3, before[1]))
        lab.config(NARROW)
        refused = '"event": "configuration_refused"'
        lab.wait_for(lambda: refused in lab.log())
        assert "cannot be read: Too many open files" in lab.log()
        resource.prlimit(sidecar.pid, resource.RLIMIT_NOFILE, before)
        lab.wait_for(lambda: _mtu(lab) == 1400)
        assert lab.log().count(refused) == 1, "told once"


def test_a_file_mounted_by_itself_is_edited_in_place_or_told_to_be_stale(
    lab: Lab, mounted: Callable[[Path], Path]
) -> None:
    lab.add("node_1", "server")
    file = lab.config(NET)
    with lab.sidecar("--interval", "3600", file=mounted(file)):
        lab.wait_for(lambda: "All links connected" in lab.log())
        _in_place(file, NARROW)
        lab.wait_for(lambda: _mtu(lab) == 1400)
        _by_rename(file, NET)  # what is mounted is the old one, for good
        lab.wait_for(lambda: _errors(lab))
        assert "mount its directory instead" in _errors(lab)[0]
        assert _mtu(lab) == 1400


def test_what_an_administrator_adds_outlasts_changes_restarts_and_a_kill(lab: Lab) -> None:
    lab.add("node_1", "server")
    lab.config(NET)

    def added() -> list[str]:
        tc = ("ip", "netns", "exec", "node_1", "tc")
        shown = [
            lab.ip("node_1", "-br", "addr", "show", "dev", "eth0"),
            lab.ip("node_1", "route", "show", "10.8.0.0/24"),
            lab.ip("node_1", "route", "show", "table", "77"),
            sh(*tc, "qdisc", "show", "dev", "eth0"),
            sh(*tc, "filter", "show", "dev", "eth0", "ingress"),
        ]
        assert "10.7.0.1/24" in shown[0]
        assert all(shown), "everything that was added is there"
        return shown[1:]

    with lab.sidecar("--interval", "3600", "--on-exit", "keep"):
        lab.wait_for(lambda: "All links connected" in lab.log())
        lab.ip("node_1", "addr", "add", "10.7.0.1/24", "dev", "eth0")
        lab.ip("node_1", "route", "add", "10.8.0.0/24", "via", "10.7.0.2")
        lab.ip("node_1", "route", "add", "default", "via", "10.7.0.2", "table", "77")
        tc = "ip netns exec node_1 tc"
        for words in (
            "qdisc add dev eth0 root tbf rate 1gbit burst 64k limit 1m",
            "qdisc add dev eth0 clsact",
            "filter add dev eth0 ingress pref 7 protocol ip u32 match u32 0 0 flowid 1:7",
        ):
            sh(*tc.split(), *words.split())
        before = added()
        lab.config(NARROW)
        lab.wait_for(lambda: _mtu(lab) == 1400)
        assert added() == before
        lab.config(NARROW.replace("10.0.0.1/16", "10.0.0.7/16"))
        lab.wait_for(lambda: "10.0.0.7/16" in lab.addresses("node_1", "eth0"))
        assert added() == before
    assert added() == before
    with lab.sidecar("--interval", "3600", "--on-exit", "keep") as second:
        lab.wait_for(lambda: "All links connected" in lab.log())
        assert added() == before
        second.kill()
        second.wait()
    with lab.sidecar("--interval", "3600", "--on-exit", "keep"):
        lab.wait_for(lambda: "All links connected" in lab.log())
        lab.config(NET)
        lab.wait_for(lambda: _mtu(lab) == 1500)
        assert added() == before


def test_a_file_that_changes_while_an_engine_is_waited_for_is_read_when_it_is_there(
    lab: Lab, tmp_path: Path
) -> None:
    """A sidecar in a container asks for its project first; it has read the file by then."""
    lab.config("bridges: [{bridge: before}]")
    hostname = tmp_path / f"containers/{'a' * 64}/hostname"  # as engines mount it
    hostname.parent.mkdir(parents=True)
    hostname.touch()
    contained = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hostname && exec "$@"')
    path = tmp_path / "engine.sock"
    words = ("--runtime", "docker", "--docker-socket", str(path))
    with lab.sidecar(*words, through=(*contained, str(hostname))):
        lab.until_log("waiting: docker")
        lab.config("bridges: [{bridge: after}]")
        with contextlib.closing(FakeEngine(path)) as engine:
            engine.replies |= {"/containers/json": answer([]), "/events": quiet}
            lab.wait_for(lambda: lab.link("", "after") and not lab.link("", "before"))


def test_who_changes_a_file_to_and_fro_is_no_opponent(lab: Lab) -> None:
    """Each time its link is another one, that has to be made as it should be."""
    lab.add("node_1", "server")
    without = "\n".join(line for line in NET.splitlines() if "eth1" not in line)
    file = lab.config(NET)
    with lab.sidecar("--interval", "3600"):
        lab.until_log("All links connected")
        for _ in range(25):
            for text, there in ((without, False), (NET, True)):
                _by_rename(file, text)
                lab.wait_for(lambda there=there: bool(lab.addresses("server", "eth1")) == there)  # type: ignore[misc]
        lab.wait_for(lambda: lab.reconcile("status").returncode == 0)
        assert "Fighting" not in lab.log()
        assert "fighting" not in lab.log()
