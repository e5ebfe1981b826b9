"""Commands in plain namespaces, and the routes that say which have been run."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from actuators import routes as write_routes
from actuators.commands import LONGEST_LINE, Commands, Lines, Run
from actuators.requests import Verdict
from actuators.transport import send
from model import commands
from model.keys import Key, NsKey
from model.ownership import group_of
from model.replicas import Container
from model.resources import Command, Route
from observers.namespaces import inside
from observers.netlink import open_socket
from observers.routes import read_all
from tests.kernel.lab import Lab, container_key

GROUP = group_of("lab")
PRINT_ARGV = "import sys; [print(repr(word)) for word in sys.argv[1:]]"


class Heard:
    """Commands, and what is heard of them."""

    def __init__(self) -> None:
        self.lines: dict[Key, list[str]] = {}
        self.heard: queue.Queue[str] = queue.Queue()
        self.ends: queue.Queue[tuple[Key, int]] = queue.Queue()
        self.commands = Commands({}, self._line, self._end)

    def _line(self, run: Run, line: str) -> None:
        self.lines.setdefault(run.command.key, []).append(line)
        self.heard.put(line)

    def _end(self, run: Run, code: int) -> None:
        self.ends.put((run.command.key, code))

    def start(self, name: str, *argv: str, namespace: int = 0) -> Key:
        key = Key(container_key(name), "command", "", commands.digest(argv))
        path = Path("/run/netns") / name
        container = Container(id=name, name=name, runtime="netns", netns=str(path))
        inode = namespace or (path.stat().st_ino if path.exists() else 0)
        self.commands.start(Run(Command(key=key, argv=argv), container, inode))
        return key

    def result(self, name: str, *argv: str) -> tuple[int, list[str]]:
        key = self.start(name, *argv)
        ended, code = self.ends.get(timeout=20)
        assert ended == key
        return code, self.lines.pop(key, [])


@pytest.fixture
def run(lab: Lab) -> Iterator[Heard]:
    lab.add("node_1", "node_2")
    made = Heard()
    yield made
    made.commands.close()


# ------------------------------------------------------------------------------------- running


def test_a_list_is_executed_directly_in_the_namespace(lab: Lab, run: Heard) -> None:
    lab.ip("node_1", "link", "add", "mine0", "type", "bridge")
    assert run.result("node_1", "ip", "-br", "link", "show", "mine0")[0] == 0
    code, lines = run.result("node_2", "ip", "-br", "link", "show", "mine0")
    assert (code, lines) == (1, ['Device "mine0" does not exist.'])


def test_a_string_goes_through_the_shell_that_it_names(run: Heard) -> None:
    code, lines = run.result("node_1", "sh", "-c", "echo one; echo two >&2; exit 7")
    assert code == 7
    assert sorted(lines) == ["one", "two"]


@pytest.mark.parametrize(
    "word",
    ["$(touch /tmp/x)", "`id`", "; rm -rf /", "a b", "", "'", '"', "\\", "*", "~", "--help", "%s",
     "line\nfeed", "\x1b[31m", "é\u2028", "|", "> /dev/null", "{{x}}", "$HOME"],
)  # fmt: skip
def test_hostile_words_reach_the_program_unchanged(run: Heard, word: str) -> None:
    assert run.result("node_1", sys.executable, "-c", PRINT_ARGV, word) == (0, [repr(word)])


def test_output_comes_line_by_line_while_the_command_runs(run: Heard, tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    run.start("node_1", "sh", "-c", f"echo first; cat {fifo}; printf 'no end'")
    assert run.heard.get(timeout=10) == "first"
    assert len(run.commands.running()) == 1
    fifo.write_text("second\r\n")
    assert [run.heard.get(timeout=10) for _ in range(2)] == ["second", "no end"]
    assert run.ends.get(timeout=10)[1] == 0
    assert run.commands.running() == frozenset()


def test_commands_run_side_by_side(run: Heard, tmp_path: Path) -> None:
    fifo = tmp_path / "meeting"
    os.mkfifo(fifo)  # who opens it waits for the other
    first = run.start("node_1", "sh", "-c", f"echo hello > {fifo}")
    second = run.start("node_2", "sh", "-c", f"cat {fifo}")
    assert {run.ends.get(timeout=10), run.ends.get(timeout=10)} == {(first, 0), (second, 0)}
    assert run.lines[second] == ["hello"]


def test_fifty_commands_end_with_their_own_codes_and_leave_nothing_open(run: Heard) -> None:
    run.result("node_1", "true")
    before = len(list(Path("/proc/self/fd").iterdir()))
    wanted = {run.start("node_1", "sh", "-c", f"echo {n}; exit {n}"): n for n in range(50)}
    assert dict(run.ends.get(timeout=20) for _ in wanted) == wanted
    assert all(run.lines[key] == [str(n)] for key, n in wanted.items())
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_end_of_a_command_is_that_of_its_process(run: Heard) -> None:
    # What it leaves running holds its standard output.
    started = time.monotonic()
    code, lines = run.result("node_1", "sh", "-c", "sleep 30 & echo $!")
    os.kill(int(lines[0]), 15)
    assert code == 0
    assert time.monotonic() - started < 20


def test_a_command_that_closes_its_output_is_waited_for(run: Heard, tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    run.start("node_1", "sh", "-c", f"exec >&- 2>&-; read line < {fifo}; exit 3")
    fifo.write_text("x\n")
    assert run.ends.get(timeout=10)[1] == 3


def test_a_signal_is_told_as_a_shell_tells_it(run: Heard) -> None:
    assert run.result("node_1", "sh", "-c", "kill -9 $$") == (137, [])


def test_what_cannot_be_run_says_why(run: Heard, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("no interpreter\n")
    for argv, code, words in (
        (("no-such-program",), 127, "no program 'no-such-program'"),
        ((str(script),), 126, "Permission denied"),
        (("true", "a\0b"), 126, "word 1 of the command holds a NUL byte"),
        ((), 126, "the command is empty"),
        (("true", "\udcff\ud800"), 126, "surrogates not allowed"),
    ):
        got, (line,) = run.result("node_1", *argv)
        assert got == code
        assert line.startswith("relink: ")
        assert words in line
    script.chmod(0o755)
    got, (line,) = run.result("node_1", str(script))
    assert (got, "Exec format error" in line) == (126, True)  # no shell takes it up


def test_a_namespace_that_is_gone_is_said(run: Heard) -> None:
    code, (line,) = run.result("absent", "true")
    assert code == 125
    assert line == "relink: cannot run in /run/netns/absent: No such file or directory"


def test_another_namespace_of_that_name_is_left_alone(lab: Lab, run: Heard) -> None:
    before = Path("/run/netns/node_1").stat().st_ino
    held = os.open("/run/netns/node_1", os.O_RDONLY)  # so that its number is not given again
    lab.restart("node_1")
    run.start("node_1", "true", namespace=before)
    assert run.ends.get(timeout=10)[1] == 125
    assert run.heard.get(timeout=10) == "relink: /run/netns/node_1 is another namespace by now"
    os.close(held)


def test_what_runs_goes_on_when_nobody_listens_any_more(run: Heard, tmp_path: Path) -> None:
    fifo, done = tmp_path / "go", tmp_path / "done"
    os.mkfifo(fifo)
    os.mkfifo(done)
    run.start("node_1", "sh", "-c", f"echo started; read line < {fifo}; echo $line > {done}")
    run.heard.get(timeout=10)
    run.commands.close()
    fifo.write_text("word\n")
    assert done.read_text() == "word\n"
    assert run.ends.empty()
    for thread in threading.enumerate():
        if thread.name.startswith("command-"):
            thread.join(10)
    assert run.commands.running() == frozenset()
    run.start("node_1", "true")
    assert run.commands.running() == frozenset()


def test_lines_are_bounded_and_always_text() -> None:
    lines = Lines()
    assert lines.feed(b"\xc3") == []
    assert lines.feed(b"\xa9\xff\n\n") == ["é\ufffd", ""]
    long = b"x" * (2 * LONGEST_LINE + 10)
    pieces = lines.feed(long) + lines.feed(b"y\n")
    assert "".join(pieces) == long.decode() + "y"
    assert {len(piece) for piece in pieces} == {LONGEST_LINE, 11}
    assert lines.feed(b"end", end=True) == ["end"]
    assert lines.feed(b"", end=True) == []


# ------------------------------------------------------------------------------------- markers


def _write(ns: NsKey, *markers: Route) -> list[Verdict]:
    with inside(f"/run/netns/{ns.name}"):
        sock = open_socket()
    with sock:
        requests = [request for route in markers for request in write_routes.create(route, None)]  # type: ignore[arg-type]
        return [answer.verdict for answer in send(requests, {ns: sock})]


def _read(ns: NsKey) -> list[Route]:
    with inside(f"/run/netns/{ns.name}"):
        sock = open_socket()
    with sock:
        return read_all(ns, sock, {})


def _command(name: str, *argv: str) -> Key:
    return Key(container_key(name), "command", "", commands.digest(argv))


def test_a_marker_comes_back_from_the_kernel_as_it_went_in(lab: Lab) -> None:
    lab.add("node_1")
    ns = container_key("node_1")
    running, ended, failed = (_command("node_1", "sh", "-c", word) for word in "abc")
    written = [
        commands.marker(running, GROUP, None),
        commands.marker(ended, GROUP, None),
        commands.marker(ended, GROUP, 0),
        commands.marker(failed, GROUP, None),
        commands.marker(failed, GROUP, 255),
    ]
    assert _write(ns, *written) == [Verdict.DONE] * 5
    read = _read(ns)
    assert sorted(route.key for route in read) == sorted(route.key for route in written)
    assert all(commands.is_marker(route, GROUP) for route in read)
    assert {c.key: c.code for c in commands.decode(read, GROUP)} == {
        running: None, ended: 0, failed: 255,
    }  # fmt: skip
    assert not any(commands.is_marker(route, group_of("other")) for route in read)
    assert commands.decode(read, group_of("other")) == []


def test_only_one_can_mark_the_start(lab: Lab) -> None:
    lab.add("node_1")
    route = commands.marker(_command("node_1", "x"), GROUP, None)
    assert _write(route.key.ns, route, route) == [Verdict.DONE, Verdict.VANISHED]


def test_every_address_can_be_a_marker(lab: Lab) -> None:
    lab.add("node_1")
    ns = container_key("node_1")
    details = [f"{n:02x}{rest}" for n in range(256) for rest in ("000000", "ffffff", "000001")]
    routes = [commands.marker(Key(ns, "command", "", d), GROUP, None) for d in details]
    assert set(_write(ns, *routes)) == {Verdict.DONE}
    assert [c.key.detail for c in commands.decode(_read(ns), GROUP)] == sorted(details)


def test_a_marker_keeps_no_packet_from_its_way(lab: Lab) -> None:
    lab.add("node_1")
    lab.converge("links: [{container: node_1, bridge: s1, ip: 10.1.0.1/24}]")
    lab.ip("", "addr", "add", "10.1.0.2/24", "dev", "s1")
    target = Key(container_key("node_1"), "command", "", "0a010002")
    assert _write(target.ns, commands.marker(target, GROUP, None)) == [Verdict.DONE]
    assert "blackhole 10.1.0.2" in lab.ip("node_1", "route", "show", "table", "all")
    assert lab.pings("node_1", "10.1.0.2")  # there and back
    assert lab.ip("node_1", "rule") == lab.ip("", "rule")


def test_markers_go_with_the_namespace_and_survive_all_links(lab: Lab) -> None:
    lab.add("node_1")
    lab.converge("links: [{container: node_1, bridge: s1, ip: 10.1.0.1/24}]")
    key = _command("node_1", "true")
    assert _write(key.ns, commands.marker(key, GROUP, None)) == [Verdict.DONE]
    lab.ip("node_1", "link", "del", "eth0")
    assert [c.key for c in commands.decode(_read(key.ns), GROUP)] == [key]
    lab.restart("node_1")
    assert commands.decode(_read(key.ns), GROUP) == []


def test_an_end_without_a_start_says_nothing() -> None:
    assert commands.decode([commands.marker(_command("x", "y"), GROUP, 0)], GROUP) == []


def test_a_foreign_route_in_the_table_says_nothing(lab: Lab) -> None:
    lab.add("node_1")
    words = f"add blackhole 10.9.9.9/32 metric 1 table {GROUP}"
    lab.ip("node_1", "route", *words.split())
    assert commands.decode(_read(container_key("node_1")), GROUP) == []


def test_digests_tell_words_apart() -> None:
    argvs = [("a", "b"), ("ab",), ("a b",), ("a", "b", ""), ("b", "a"), ("", "a", "b")]
    assert len({commands.digest(argv) for argv in argvs}) == len(argvs)
    with pytest.raises(ValueError, match="256 is no exit code"):
        commands.marker(_command("x", "y"), GROUP, 256)
