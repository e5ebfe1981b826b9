"""Which programs a converging Relink starts, and with which words: never a shell, never a sentence.

Every program that could do harm is a trap in a mount namespace of the run: also /bin/sh by its full
name, which is what a shell in the wrong place would be. The two that Relink may call (nft, ethtool)
write down their words and then do their work. The container's own commands are run by busybox.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.kernel.lab import Lab

TRAPS = ("sh", "bash", "ip", "tc", "bridge", "iptables", "ip6tables", "ovs-vsctl",
         "ovs-ofctl", "sysctl", "modprobe", "touch", "rm", "nsenter", "unshare")  # fmt: skip
CALLED = ("nft", "ethtool")
_MS_BIND = 4096
# It writes its name and words, NUL after each, and a line feed.
_TRAP = """\
#!{busybox} sh
{{ {busybox} printf '%s\\0' {name} "$@"; {busybox} printf '\\n'; }} >>{record}
{then}
"""
_RUN = """\
import json, os, sys
from tests.kernel.lab import mount
for trap, victim in json.loads(sys.argv[1]):
    mount(trap, victim, "none", {bind})
os.execv(sys.executable, [sys.executable, "-m", "reconciler.cli", *sys.argv[2:]])
"""
TOUCH = "; touch PWNED"
WORDS = (TOUCH, "$(touch PWNED)", "`touch PWNED`", "| touch PWNED", "> PWNED", "a\ntouch PWNED",
         "'", '"', "../../PWNED", "-x", "--help", "*", "%s", "é", "x" * 10_000)  # fmt: skip


@dataclass(frozen=True)
class Trapped:
    """A run among traps: what it said, and each program that it started with its words."""

    done: subprocess.CompletedProcess[str]
    called: list[list[str]]
    at: Path

    def calls(self, program: str) -> list[list[str]]:
        return [words for name, *words in self.called if name == program]


def _trapped(lab: Lab, configuration: object, *options: str) -> Trapped:
    traps, at = lab.directory / "traps", lab.directory / "at"
    for directory in (traps, at):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
    record = lab.directory / "record"
    record.write_text("")
    busybox = shutil.which("busybox")
    places: list[tuple[str, str]] = []
    for name in (*TRAPS, *CALLED):
        found = shutil.which(name)
        if name in TRAPS and found is None:
            continue
        assert found, f"{name} is not installed; scripts/prepare test does it"
        real = Path(found).resolve()
        if str(real) in dict(places).values():  # one program of several names
            continue
        then = "exit 99"
        if name in CALLED:  # the real one, at a place that is not covered
            shutil.copy2(real, traps / f"{name}.real")
            then = f'exec {traps}/{name}.real "$@"'
        trap = traps / name
        words = {"busybox": busybox, "name": name, "record": record, "then": then}
        trap.write_text(_TRAP.format(**words))
        trap.chmod(0o755)
        places.append((str(trap), str(real)))
    file = lab.config(yaml.safe_dump(configuration, allow_unicode=True))
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", sys.executable, "-c",
         _RUN.format(bind=_MS_BIND), json.dumps(places), "--runtime", "netns", "--instance",
         lab.instance, "--network-file", str(file), *options],
        capture_output=True, text=True, check=False, timeout=60, cwd=at,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    called = [line.split("\0") for line in record.read_text().split("\0\n") if line]
    return Trapped(done, called, at)


def _assert_nothing_happened(run: Trapped) -> None:
    assert {name for name, *_ in run.called} <= set(CALLED), run.called
    assert list(run.at.iterdir()) == [], "something was made where it ran"
    assert list(run.at.parent.rglob("*PWNED*")) == []


def test_the_traps_are_traps(lab: Lab) -> None:
    """By name, by full name and as a shell: what a careless program would do is seen."""
    lab.add("a")
    code = """if True:
        import os, subprocess
        subprocess.run("echo x", shell=True)
        os.system("echo y")
        subprocess.run(["ip", "link"])
    """
    wanted = {"commands": [{"container": "a", "command": [sys.executable, "-c", code]}]}
    run = _trapped(lab, wanted, "--once")
    assert run.called == [["sh", "-c", "echo x"], ["sh", "-c", "echo y"], ["ip", "link"]]


# What is taken although it looks like something: names of interfaces, bridges, words of programs.
NAMES = ("`id`", "$$(id)", "a;id", "|id", "&id", ">x", "-x", "--help", "*", "'", '"', "\\", "{}")


@pytest.mark.parametrize("part", [NAMES[:7], NAMES[7:]], ids=["first", "second"])
def test_names_are_names(lab: Lab, part: Sequence[str]) -> None:
    lab.add("a")
    links = [
        {"container": "a", "dev": name, "bridge": f"{name}.", "outer-dev": f"{name}_",
         "ip": f"10.{n}.0.1/24", "route": f"10.{n}.9.0/24 via 10.{n}.0.9",
         "ethtool": "--offload gro off"}
        for n, name in enumerate(part, 1)
    ]  # fmt: skip
    run = _trapped(lab, {"links": links}, "--once")
    assert run.done.returncode == 0, run.done.stdout + run.done.stderr
    _assert_nothing_happened(run)
    made = [name.replace("$$", "$") for name in part]
    assert {row["ifname"] for row in lab.show("a", "link")} >= set(made)
    assert {row["ifname"] for row in lab.show("", "link")} >= {f"{n}." for n in made}
    assert run.called == []


def test_words_reach_a_program_as_one_word_each(lab: Lab) -> None:
    lab.add("a")
    written = [word.replace("$", "$$") for word in WORDS]
    # A line of the log holds no more than some thousand characters.
    code = "import sys; print('got', [w if len(w) < 99 else len(w) for w in sys.argv[1:]])"
    wanted = {
        "links": [{"container": "a", "bridge": "s1", "ip": "10.0.0.1/24"}],
        "commands": [{"container": "a", "command": [sys.executable, "-c", code, *written]}],
    }
    run = _trapped(lab, wanted, "--once")
    assert run.done.returncode == 0, run.done.stdout + run.done.stderr
    _assert_nothing_happened(run)
    (line,) = [line for line in run.done.stderr.splitlines() if "got" in line]
    got = line.partition("got ")[2]
    assert got == str([word if len(word) < 99 else len(word) for word in WORDS])


def test_words_of_ethtool_are_refused_by_ethtool(lab: Lab) -> None:
    lab.add("a")
    hostile = ["--change msglvl ;touch PWNED", "--change msglvl `touch", "--pause -x"]
    devices = ("eth0", "-x", "*")
    links = [
        {"container": "a", "bridge": "s1", "ip": f"10.0.0.{n}/24", "dev": dev, "ethtool": hostile}
        for n, dev in enumerate(devices, 1)
    ]
    run = _trapped(lab, {"links": links}, "--once")
    assert run.done.returncode == 1
    _assert_nothing_happened(run)
    split = [words.split() for words in hostile]
    wanted = {(verb, dev, *words) for verb, *words in split for dev in devices}
    assert set(map(tuple, run.calls("ethtool"))) == wanted
    assert lab.addresses("a", "eth0") == {"10.0.0.1/24"}


def test_a_string_goes_to_the_shell_of_the_container_and_to_no_other(lab: Lab) -> None:
    """That is its meaning (`sh -c`); the container of this test is a namespace without files."""
    lab.add("a")
    text = f"echo hello {TOUCH}"
    run = _trapped(lab, {"commands": [{"container": "a", "command": text}]}, "--once")
    assert run.called == [["sh", "-c", text]]


def test_nat_and_forward_go_to_nft_by_its_standard_input(lab: Lab) -> None:
    lab.add("a")
    for words in ("link add eth0 type veth peer name far0", "addr add 172.31.0.2/24 dev eth0",
                  "link set eth0 up"):  # fmt: skip
        lab.ip("", *words.split())
    link = {"container": "a", "dev": "`id`", "bridge": "s1", "ip": "10.0.0.1/24",
            "nat": "10.9.9.9", "forward": "80:80/tcp"}  # fmt: skip
    run = _trapped(lab, {"links": [link]}, "--once")
    _assert_nothing_happened(run)
    nft = run.calls("nft")
    assert nft
    assert {" ".join(words[:3]) for words in nft} <= {"-j -f -", "-j list table"}
    assert not any("id" in word.replace("inet", "") for words in nft for word in words[:4])


REFUSED = (TOUCH, "$$(touch PWNED)", "`touch PWNED`", "x\ntouch PWNED", "../PWNED", "a\0b")


KEYS = ("ip", "mac", "route", "nat", "netem", "forward", "dev", "bridge", "outer-dev", "mode",
        "base", "ethtool", "mtu")  # fmt: skip


def test_what_is_refused_starts_nothing_at_all(lab: Lab) -> None:
    links = [
        {"container": "a", "bridge": "s1", "ip": "10.0.0.1/24", "dev": f"e{k}-{n}", key: text}
        for k, key in enumerate(KEYS)
        for n, text in enumerate(REFUSED)
    ]
    run = _trapped(lab, {"links": links}, "--once")
    assert run.done.returncode == 1
    *told, last = run.done.stderr.splitlines()
    assert last.endswith("errors; nothing was changed.")
    assert len({line.split(": ")[0] for line in told}) >= len(links), "a place for each"
    assert run.called == []
    _assert_nothing_happened(run)
