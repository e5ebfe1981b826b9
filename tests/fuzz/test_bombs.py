"""Small files that mean much: refused in words, by a process with little memory, in linear time.

Each is read by a process of its own, so that what ends it (SIGSEGV, no memory, no more time) is a
failure of that case alone.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.waiting import patient

DEEP = 100_000
MANY = 8_000
MEMORY = 384 << 20  # bytes of address space, of which Python and the libraries take a third
SECONDS = 60  # of computing; each takes one or two

_READ = """
import resource, sys
limits = {limits}
resource.setrlimit(resource.RLIMIT_AS, (limits[0],) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (limits[1],) * 2)
from reconciler.cli import main
sys.exit(main(["--network-file", sys.argv[1], "--show-config"]))
"""


def _aliases(of: str, *, padded: int = 0) -> str:
    """Nine levels, each ten times the one before: a thousand million values of 400 bytes."""
    lines = [f"a0: &a0 {of}"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join([*lines, "#" + "x" * padded])


def _merges() -> str:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 10)]
    return "\n".join(lines)


def _link(rest: str) -> str:
    return f"links: [{{service: a, bridge: s, ip: 10.0.0.1/8, {rest}}}]"


def _listed(key: str, entry: Callable[[int], str], many: int = MANY) -> str:
    return _link(f"{key}: [{', '.join(entry(number) for number in range(1, many))}]")


def _addresses(many: int) -> str:
    ips = ", ".join(f"{_address(number)}/8" for number in range(1, many))
    return f"links: [{{service: a, bridge: s, ip: [{ips}]}}]"


def _address(number: int) -> str:
    return f"10.1.{number >> 8}.{number & 255}"


# What it is → the file, and what is said of it. Empty for what is no mistake.
BOMBS: dict[str, tuple[Callable[[], str], str]] = {
    "lists in lists": (lambda: "[" * DEEP, "nested more than 100 deep"),
    "closed lists in lists": (lambda: "[" * DEEP + "]" * DEEP, "nested more than 100 deep"),
    "mappings in mappings": (lambda: "{a: " * DEEP, "nested more than 100 deep"),
    "lines of dashes": (lambda: "- " * DEEP + "x", "nested more than 100 deep"),
    "indented mappings": (
        lambda: "\n".join(" " * n + "a:" for n in range(1000)), "nested more than 100 deep",
    ),
    "anchors in anchors": (
        lambda: "".join(f"&a{n} [" for n in range(DEEP)), "nested more than 100 deep",
    ),
    "keys of keys": (lambda: "? " * DEEP + "x", "a key must be a word"),
    "a megabyte of aliases": (
        lambda: _aliases("[x, x, x, x]", padded=1_000_000), "more than 200000 values",
    ),
    "aliases of a long text": (lambda: _aliases("x" * 400), "more than 200000 values"),
    "merges of merges": (_merges, "more than 200000 values"),
    "a list in itself": (lambda: "&a [*a]", "contains an alias of itself"),
    "a mapping merged into itself": (lambda: "a: &a {<<: *a}", "contains an alias of itself"),
    "deep by aliases": (
        lambda: "a0: &a0 []\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 1000)),
        "deep, aliases counted",
    ),
    "one key very often": (lambda: "a: 1\n" * DEEP, "'a' is given twice"),
    "100 000 links": (
        lambda: "links:\n" + "\n".join(f"- {{container: c{n}, bridge: s}}" for n in range(DEEP)),
        "more than 200000 values",
    ),
    "a number of a million digits": (lambda: _link("mtu: " + "9" * 1_000_000), "'mtu' is '999"),
    "a fraction of a million digits": (lambda: _link("mtu: 1." + "9" * 1_000_000), "'mtu' is '1.9"),
    "a text of ten megabytes": (lambda: _link("dev: " + "x" * 10_000_000), "'dev' is 'xxx"),
    "many unknown keys": (
        lambda: _link(", ".join(f"k{n}: 1" for n in range(2000))), "unknown key 'k1999'",
    ),
    "many addresses": (lambda: _addresses(MANY), ""),
    "many routes": (lambda: _listed("route", lambda n: f"{_address(n)}/32 via 10.0.0.9"), ""),
    "wide ranges of ports": (
        lambda: _listed("forward", lambda _: '"1-4096:1-4096/tcp"', 10_000), "is already taken",
    ),
    "dollar signs": (lambda: _link(f"netem: '{'$$' * 500_000}'"), "unknown word"),
    "braces of variables": (lambda: _link(f"netem: '{'${A:-' * 200_000}'"), "${ without }"),
    "a lone dollar in much": (lambda: _link(f"netem: '{'$$ ' * 300_000}$'"), "a lone $"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_it_is_read_or_refused_in_little_memory(name: str, tmp_path: Path) -> None:
    make, said = BOMBS[name]
    file = tmp_path / "bomb.yaml"
    file.write_text(make())
    done = _read(file)
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    if said:
        assert done.returncode == 1, (done.returncode, done.stderr[-500:])
        assert said in done.stderr, done.stderr[-500:]
        assert max(map(len, done.stderr.splitlines())) < 1000
    else:
        assert (done.returncode, done.stderr) == (0, "")


def test_a_pipe_or_a_device_is_not_read(tmp_path: Path) -> None:
    """Neither of them need ever end."""
    endless = tmp_path / "zero.yaml"
    endless.symlink_to("/dev/zero")
    done = _read(endless)
    assert done.returncode == 1
    assert "zero.yaml: not a file but a pipe, socket or device" in done.stderr


# What there is more and more of → a file with so many, and what is said of it, as of BOMBS.
SIZES: dict[str, tuple[Callable[[int], str], str]] = {
    "addresses": (_addresses, ""),
    "routes": (lambda n: _listed("route", lambda i: f"{_address(i)}/32 via 10.0.0.9", n), ""),
    "variables": (lambda n: _link(f"netem: '{'$$' * 20 * n}'"), "unknown word"),
    "merged mappings": (
        lambda n: (
            "a: &a {}\nb: {"
            + ", ".join(f"k{i}: 1" for i in range(6 * n))
            + f", <<: [{', '.join(['*a'] * 6 * n)}]}}"
        ),
        "unknown key 'a'",
    ),
    "unknown keys": (
        lambda n: "{" + ", ".join(f"k{i}: 1" for i in range(n)) + "}", "unknown key 'k999'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_four_times_the_size_takes_about_four_times_the_time(
    name: str, tmp_path: Path, measured: Callable[[str], None]
) -> None:
    """A square would be sixteen times."""
    make, said = SIZES[name]
    took = []
    for many in (1000, 4000):
        file = tmp_path / "size.yaml"
        file.write_text(make(many))
        took.append(min(_time_of(file, said) for _ in range(3)))
    measured(f"{took[1] / took[0]:.1f} times the time")
    assert took[1] < 10 * took[0], took


def _time_of(file: Path, said: str) -> float:
    from model.problems import ConfigError
    from reconciler.sources import Sources, load

    problems: tuple[object, ...] = ()
    started = time.process_time()
    try:
        load(Sources((str(file),), (), {}))
    except ConfigError as error:
        problems = error.problems
    took = time.process_time() - started
    assert any(said in str(each) for each in problems) if said else not problems, problems[:3]
    return took


def _read(file: Path) -> subprocess.CompletedProcess[str]:
    code = _READ.format(limits=(MEMORY, SECONDS))
    return subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2], timeout=patient(120),
    )  # fmt: skip
