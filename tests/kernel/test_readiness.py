"""What a container is told of its links, in its own namespace: tools/wait asks for it there."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.kernel.lab import Lab, sh

QUIET = ("--interval", "3600")
NET = """
links:
- {service: node, bridge: s1, ip: 10.0.0.1/16}
"""
WAIT = Path(__file__).parents[2] / "tools/wait.sh"


def told(ns: str) -> list[str]:
    """Return what stands in a container's /proc/net/unix."""
    listed = sh("nsenter", f"--net=/run/netns/{ns}", "cat", "/proc/net/unix")
    rows = [line.split(maxsplit=7)[7:] for line in listed.splitlines()[1:]]
    return [name for row in rows for name in row if name.startswith("@relink/ready/")]


def is_told(lab: Lab, ns: str) -> bool:
    return told(ns) == [f"@relink/ready/{lab.instance}"]


def wait_ready(ns: str, *words: str, seconds: float = 10) -> int:
    """Run wait --ready in a container."""
    enter = ("nsenter", f"--net=/run/netns/{ns}")
    command = (*enter, WAIT, "--ready", "--timeout", str(seconds), *words)
    return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode


def test_a_container_is_told_once_its_links_are_there(lab: Lab) -> None:
    lab.add("node_1", "other")
    lab.config(NET)
    assert wait_ready("node_1", seconds=0.1) == 124
    with lab.sidecar(*QUIET):
        has = ("--", "ip", "address", "show", "to", "10.0.0.1/16")
        assert wait_ready("node_1", *has) == 0
        assert is_told(lab, "node_1")
        assert lab.addresses("node_1", "eth0") == {"10.0.0.1/16"}
        assert told("other") == [], "nothing is declared for it"
        assert sh("cat", "/proc/net/unix").count("@relink/ready") == 0, "nowhere else"


def test_it_is_not_told_while_anything_of_it_cannot_be(lab: Lab) -> None:
    """Whatever is wrong with one container does not concern another."""
    lab.add("node_1", "node_2")
    lab.ip("node_2", "link", "add", "eth0", "type", "veth", "peer", "name", "foreign")
    lab.config(NET)
    with lab.sidecar(*QUIET):
        lab.wait_for(lambda: is_told(lab, "node_1"))
        lab.until_log("not_ready")
        assert told("node_2") == []
        lab.ip("node_2", "link", "del", "eth0")
        lab.wait_for(lambda: is_told(lab, "node_2"))


def test_it_is_withdrawn_when_a_link_is_not_as_declared_any_more(lab: Lab) -> None:
    """Here because somebody else's interface has its name; and it is told anew."""
    lab.add("node_1")
    lab.config(NET)
    with lab.sidecar(*QUIET) as sidecar:
        lab.wait_for(lambda: is_told(lab, "node_1"))
        lab.ip("node_1", "link", "add", "mine", "type", "veth", "peer", "name", "foreign")
        sidecar.send_signal(signal.SIGSTOP)  # the name is taken before anybody can have it back
        lab.ip("node_1", "link", "del", "eth0")
        lab.ip("node_1", "link", "set", "mine", "name", "eth0")
        sidecar.send_signal(signal.SIGCONT)
        lab.wait_for(lambda: told("node_1") == [])
        lab.ip("node_1", "link", "del", "eth0")
        lab.wait_for(lambda: is_told(lab, "node_1"))
        assert lab.addresses("node_1", "eth0") == {"10.0.0.1/16"}


def test_it_stays_while_what_is_broken_is_repaired_at_once(lab: Lab) -> None:
    lab.add("node_1")
    lab.config(NET)
    with lab.sidecar(*QUIET):
        lab.wait_for(lambda: is_told(lab, "node_1"))
        lab.ip("node_1", "link", "del", "eth0")
        lab.wait_for(lambda: lab.addresses("node_1", "eth0") == {"10.0.0.1/16"})
        lab.wait_for(lambda: is_told(lab, "node_1"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_goes_with_who_said_it(lab: Lab, number: int) -> None:
    """However that ends, and although the links stay: nobody looks at them any more."""
    lab.add("node_1")
    lab.config(NET)
    for _ in range(2):
        with lab.sidecar(*QUIET, "--on-exit", "keep") as sidecar:
            lab.wait_for(lambda: is_told(lab, "node_1"))
            sidecar.send_signal(number)
            sidecar.wait(10)
            assert told("node_1") == []
            assert lab.addresses("node_1", "eth0") == {"10.0.0.1/16"}


def test_it_is_gone_before_the_links_are(lab: Lab) -> None:
    lab.add("node_1")
    lab.config(NET)
    with lab.sidecar(*QUIET) as sidecar:
        lab.wait_for(lambda: is_told(lab, "node_1"))
        seen: list[tuple[bool, bool]] = []
        sidecar.send_signal(signal.SIGTERM)
        while sidecar.poll() is None:
            there = lab.link("node_1", "eth0") is not None
            seen.append((is_told(lab, "node_1"), there))
        assert (True, False) not in seen, "told, while the link looked at before was gone"


def test_a_container_that_restarts_is_told_anew(lab: Lab) -> None:
    """The word of its last life went with it, and kept nothing of it alive."""
    lab.add("node_1", "node_2")
    lab.config(NET)
    with lab.sidecar(*QUIET):
        lab.wait_for(lambda: is_told(lab, "node_1"))
        for _ in range(10):
            lab.restart("node_1")
            assert wait_ready("node_1") == 0
            assert lab.addresses("node_1", "eth0") == {"10.0.0.1/16"}
        lab.remove("node_1")
        lab.wait_for(lambda: lab.link("", "node_1-eth0") is None)
        assert is_told(lab, "node_2")


def test_another_configuration_counts_from_its_first_moment(lab: Lab) -> None:
    lab.add("node_1")
    lab.config(NET)
    with lab.sidecar(*QUIET):
        lab.wait_for(lambda: is_told(lab, "node_1"))
        # Its parent is not there.
        lab.config(NET + "- {service: node, type: macvlan, outer-dev: none0, dev: eth1}\n")
        lab.wait_for(lambda: told("node_1") == [])
        lab.until_log("not_ready")
        assert told("node_1") == []
        lab.config(NET)
        lab.wait_for(lambda: is_told(lab, "node_1"))
        lab.config("links: []\n")
        lab.wait_for(lambda: told("node_1") == [])


def test_a_name_that_somebody_else_has_is_said_in_the_log(lab: Lab) -> None:
    lab.add("node_1")
    lab.config(NET)
    code = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.bind('\\0relink/ready/lab'); input()"
    )
    enter = ("nsenter", "--net=/run/netns/node_1", "python3", "-c", code)
    with subprocess.Popen(enter, stdin=subprocess.PIPE) as foreign:
        lab.wait_for(lambda: is_told(lab, "node_1"))
        with lab.sidecar(*QUIET):
            lab.until_log("not_told")
            assert "All links connected" in lab.log()
        foreign.kill()


def test_two_relinks_speak_for_themselves(lab: Lab) -> None:
    lab.add("node_1")
    lab.config(NET)
    with lab.sidecar(*QUIET):
        lab.wait_for(lambda: is_told(lab, "node_1"))
        assert wait_ready("node_1", "--ready=lab", seconds=1) == 0
        assert wait_ready("node_1", "--ready=other", seconds=0.1) == 124
