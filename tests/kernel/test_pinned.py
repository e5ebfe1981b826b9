"""The file that a pinned data plane has, whatever became of an earlier one."""

from __future__ import annotations

from pathlib import Path

from tests.faults import kernel
from tests.kernel.lab import Lab, mount, sh

NET = "links: [{container: a, bridge: s1, ip: 10.0.0.1/24}]"
PLANE = Path("/run/netns/relink-lab")
_ELSEWHERE = 1 << 12 | 1 << 14  # MS_BIND, MS_REC
_PRIVATE = 1 << 14 | 1 << 18  # MS_REC, MS_PRIVATE


def _told(lab: Lab, how: str) -> str:
    """Return what Relink says as it fails, "" if it does not."""
    file = str(lab.config(NET))
    done = lab.reconcile("--network-file", file, "--dataplane", "pinned", how)
    return done.stderr if done.returncode else ""


def test_it_takes_the_place_of_an_empty_file_and_of_nothing_else(lab: Lab) -> None:
    """The file is what is left of a Relink that was killed before it mounted the namespace."""
    lab.add("a")
    PLANE.touch()
    assert _told(lab, "--once") == ""
    assert kernel.is_namespace(str(PLANE))
    assert _told(lab, "--destroy") == ""
    PLANE.write_text("somebody's")
    assert "File exists" in _told(lab, "--once")
    assert PLANE.read_text() == "somebody's"
    PLANE.unlink()


def test_it_is_let_go_where_it_is_mounted_elsewhere_too(lab: Lab, tmp_path: Path) -> None:
    """As in a container that has the host's whole file system."""
    lab.add("a")
    assert _told(lab, "--once") == ""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    mount("/run/netns", str(elsewhere), "none", _ELSEWHERE)
    mount("none", str(elsewhere), "none", _PRIVATE)
    assert _told(lab, "--destroy") == ""
    assert not kernel.is_namespace(str(PLANE))
    sh("umount", "--recursive", str(elsewhere))
    assert _told(lab, "--once") == ""
    assert lab.addresses("a", "eth0") == {"10.0.0.1/24"}
    assert _told(lab, "--destroy") == ""
    assert not PLANE.exists()
