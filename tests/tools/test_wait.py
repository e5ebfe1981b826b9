"""wait: each condition is waited for in turn, then the command replaces it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab.waiting import until
from tests.tools.programs import Program, ended, entering, ip, options, says

HOSTILE = [
    "a b", "$(touch owned)", "`id`", "; reboot", "'", '"', "\\", "\\n", "--", "-x", "", "*", "~",
    "line\nline", "tab\t", "%s", "{{x}}", "| cat", "&&", ">x", "\udcff",
]  # fmt: skip
TELL = "import json, os, sys; json.dump([os.getpid(), sys.argv[1:], dict(os.environ)], sys.stdout)"


@contextmanager
def listening(pid: int, host: str, port: int) -> Iterator[None]:
    """Have a server in the network of a process. It accepts nothing: the kernel answers."""
    code = (
        "import socket, sys; host, port = sys.argv[1], int(sys.argv[2]); "
        "family = socket.AF_INET6 if ':' in host else socket.AF_INET; "
        "server = socket.create_server((host, port), family=family); print(flush=True); input()"
    )
    server = subprocess.Popen(
        [*entering(pid), sys.executable, "-c", code, host, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with server:
        assert server.stdout is not None
        server.stdout.readline()
        yield
        server.kill()


@contextmanager
def told(pid: int, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """Have an abstract Unix socket in the network of a process, as Relink makes it."""
    code = (
        "import socket, sys; sock = socket.socket(socket.AF_UNIX); "
        "sock.bind('\\0' + sys.argv[1]); print(flush=True); input()"
    )
    holder = subprocess.Popen(
        [*entering(pid), sys.executable, "-c", code, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield holder
        holder.kill()


# ------------------------------------------------------------------------------ conditions


@pytest.mark.parametrize("option", options("wait", "-f", "--file"))
@pytest.mark.parametrize("name", ["plain", "two words", "line\nfeed", "--", "'\"\\$*"])
@pytest.mark.proves("wait names with spaces")
def test_a_file(wait: Program, tmp_path: Path, option: str, name: str) -> None:
    path = f"./{name}"
    process = wait.start(option, path, "--", "echo", "there", cwd=tmp_path)
    assert says(process) == f"wait: waiting for file {path}".splitlines()[0]
    (tmp_path / name).touch()
    done = ended(process)
    assert (done.code, done.out) == (0, "there\n"), done.err
    assert wait.run(option, path, cwd=tmp_path).err == "", "nothing to say of what is there"


@pytest.mark.parametrize("option", options("wait", "-i", "--if", "--intf"))
def test_an_interface(inside: Program, net: int, option: str) -> None:
    assert inside.run(option, "lo").code == 0
    process = inside.start(option, "eth1", "--", "echo", "there")
    assert says(process) == "wait: waiting for interface eth1"
    ip(net, "link", "add", "eth10", "type", "bridge")
    ip(net, "link", "add", "eth1", "type", "bridge")
    assert ended(process).out == "there\n"


@pytest.mark.proves("wait -i")
def test_an_interface_is_known_by_its_whole_name(inside: Program, net: int) -> None:
    ip(net, "link", "add", "eth0", "type", "bridge")
    for name in ("eth", "face", "Inter-|", "eth0:", "*", "eth0 ", "e.h0"):
        done = inside.run("-i", name, "--timeout", "0.05")
        assert done.code == 124
        assert done.err.endswith(f"wait: timed out after 0.05 s, waiting for interface {name}\n")


@pytest.mark.parametrize("option", options("wait", "-I", "--ip"))
@pytest.mark.parametrize("address", ["10.0.0.1/24", "fd00::1/64"])
def test_an_address(inside: Program, net: int, option: str, address: str) -> None:
    ip(net, "link", "add", "eth0", "up", "type", "bridge")
    ip(net, "address", "add", "fe80::5/64", "dev", "eth0", "nodad")
    process = inside.start(option, "eth0", "--", "echo", "there")
    assert says(process) == "wait: waiting for an IP address on eth0"
    ip(net, "address", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
    assert ended(process).out == "there\n"


@pytest.mark.proves("wait -I")
def test_an_address_is_of_that_interface(inside: Program, net: int) -> None:
    ip(net, "link", "add", "eth0", "type", "bridge")
    ip(net, "link", "add", "eth01", "type", "bridge")
    ip(net, "address", "add", "10.0.0.1/24", "dev", "eth01", "label", "eth01:a")
    assert inside.run("-I", "eth0", "--timeout", "0.1").code == 124
    assert inside.run("-I", "eth01", "--timeout", "0.1").code == 0


@pytest.mark.proves("wait -6", "wait -I")
def test_after_6_an_address_is_one_of_ipv6(inside: Program, net: int) -> None:
    ip(net, "link", "add", "eth0", "type", "bridge")
    ip(net, "address", "add", "10.0.0.1/24", "dev", "eth0")
    assert inside.run("-I", "eth0").code == 0
    process = inside.start("-I", "eth0", "-6", "-I", "eth0", "--", "echo", "there")
    assert says(process) == "wait: waiting for an IPv6 address on eth0"
    ip(net, "address", "add", "fd00::1/64", "dev", "eth0", "nodad")
    assert ended(process).out == "there\n"


@pytest.mark.proves("wait -I")
def test_an_ipv6_address_that_may_be_a_duplicate_is_none(inside: Program, net: int) -> None:
    """It is tentative as long as its interface has no carrier."""
    ip(net, "link", "add", "eth0", "up", "type", "veth", "peer", "name", "eth1")
    ip(net, "address", "add", "fd00::1/64", "dev", "eth0")
    assert inside.run("-I", "eth0", "--timeout", "0.1").code == 124


@pytest.mark.parametrize(
    ("words", "told_as"),
    [
        ("127.0.0.1:8080", "127.0.0.1"),
        pytest.param("[::1]:8080", "::1", marks=pytest.mark.proves("wait [IPV6]:PORT")),
        pytest.param("tcp:8080", "this container", marks=pytest.mark.proves("wait tcp:PORT")),
        ("8080", "this container"),
        ("localhost:8080", "localhost"),
        ("tcp:127.0.0.1:8080", "127.0.0.1"),
    ],
)
@pytest.mark.proves("wait --tcp")
def test_a_port(inside: Program, net: int, words: str, told_as: str) -> None:
    at = "::1" if "[" in words else "127.0.0.1"
    process = inside.start("--tcp", words, "--", "echo", "there")
    assert says(process) == f"wait: waiting for {told_as} to answer on TCP port 8080"
    with listening(net, at, 8080):
        done = ended(process)
        assert (done.code, done.out) == (0, "there\n"), done.err


@pytest.mark.proves("wait -6", "wait tcp:PORT")
def test_after_6_this_container_is_its_ipv6_loopback(inside: Program, net: int) -> None:
    with listening(net, "127.0.0.1", 8080):
        assert inside.run("-6", "-t", "tcp:8080", "--timeout", "0.3").code == 124
        with listening(net, "::1", 8080):
            assert inside.run("-6", "-t", "tcp:8080", "--timeout", "5").code == 0


@pytest.mark.proves("wait -6", "wait -t")
def test_after_6_a_name_is_its_ipv6_address(inside: Program, net: int, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 db\n# ::2 db\n::1 other db # also\n")
    renaming = (
        "unshare",
        "--mount",
        "sh",
        "-c",
        'mount --bind "$0" /etc/hosts && exec "$@"',
        hosts,
    )
    there = replace(inside, before=(*inside.before, *renaming))
    with listening(net, "::1", 8080):
        done = there.run("-6", "-t", "db:8080", "--timeout", "5")
        assert done.code == 0, done.err
        done = there.run("-6", "-t", "nobody:8080", "--timeout", "0.3")
        assert done.err.endswith("waiting for nobody to answer on TCP port 8080 by IPv6\n")


@pytest.mark.proves("wait -t", "wait several hosts")
def test_several_hosts(inside: Program, net: int) -> None:
    both = "127.0.0.1:81,[::1]:82"
    with listening(net, "127.0.0.1", 81):
        done = inside.run("-t", both, "--timeout", "0.3")
        assert done.err.endswith("waiting for ::1 to answer on TCP port 82\n")
        done = inside.run("-t", "127.0.0.1:81", "-t", "[::1]:82", "--timeout", "0.3")
        assert done.err.endswith("waiting for ::1 to answer on TCP port 82\n")
        with listening(net, "::1", 82):
            assert inside.run("-t", both, "--timeout", "5").code == 0


@pytest.mark.parametrize("option", options("wait", "-c", "--cmd", "--command"))
def test_a_command(wait: Program, tmp_path: Path, option: str) -> None:
    """A line for sh: what it prints is seen, and its input is empty."""
    line = 'read -r word; echo "tried <$word> $0" >&2; [ -e "two words" ] && [ -e \'$x\' ]'
    process = wait.start(option, line, "--", "echo", "there", cwd=tmp_path)
    assert {says(process), says(process)} == {
        "tried <> sh",
        f"wait: waiting for success of: {line}",
    }
    for name in ("two words", "$x"):
        (tmp_path / name).touch()
    assert ended(process).out == "there\n"


@pytest.mark.proves("wait --ready", "wait --ready=INSTANCE")
def test_ready_is_what_relink_says_here(inside: Program, net: int) -> None:
    process = inside.start("--ready", "--", "echo", "there")
    assert says(process) == "wait: waiting for the links of this container to be as declared"
    with told(net, "relink/ready/my project"):
        assert ended(process).out == "there\n"
        assert inside.run("--ready=my project").code == 0
        done = inside.run("--ready=my", "--timeout", "0.1")
        assert done.code == 124
        assert done.err.endswith("links of this container to be as declared by my\n")
    assert inside.run("--ready", "--timeout", "0.1").code == 124, "it goes with who said it"
    with told(net, "relink/readyness"):
        assert inside.run("--ready", "--timeout", "0.1").code == 124


@pytest.mark.proves("wait in turn")
def test_conditions_are_waited_for_in_turn(wait: Program, tmp_path: Path) -> None:
    process = wait.start("-f", "a", "-c", "[ -e b ]", "-f", "c", "--", "echo", "x", cwd=tmp_path)
    for name, told_as in (("a", "file a"), ("b", "success of: [ -e b ]"), ("c", "file c")):
        assert says(process) == f"wait: waiting for {told_as}"
        (tmp_path / name).touch()
    assert ended(process).out == "x\n"


# -------------------------------------------------------------------------------- command


@pytest.mark.proves("wait -- COMMAND")
def test_the_command_replaces_it(inside: Program, net: int, tmp_path: Path) -> None:
    """Same process, words and environment as they are, and nothing else is left of it."""
    env = {
        "SRC": "x y", "_part": "kept?", "host": "a\nb", "line": "", "IFS": "x", "OPTIND": "7",
        "name": "\\", "option": "'",
    }  # fmt: skip
    with listening(net, "127.0.0.1", 80):
        process = inside.start(
            *("-c", "true", "-f", "/", "-i", "lo", "-t", "tcp:80"),
            *("--timeout", "9", "--", sys.executable, "-c", TELL),
            *map(os.fsencode, HOSTILE),
            env=env,
            cwd=tmp_path,
        )
        done = ended(process)
    pid, argv, environment = json.loads(done.out)
    assert pid == process.pid
    assert argv == HOSTILE
    untouched = ("SRC", "host", "line", "name", "option")
    assert {key: environment.get(key) for key in untouched} == {k: env[k] for k in untouched}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.proves("wait -- COMMAND")
def test_the_command_has_its_input_and_no_children(wait: Program) -> None:
    there = 'read -r word && echo "$word"; wait; pgrep -P $$ | wc -l'
    process = wait.start(
        "-c", "true", "--timeout", "9", "--", "/bin/sh", "-c", there, stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(b"hello\n")
    process.stdin.flush()
    # pgrep is a child itself, in a pipe, and says nothing of itself.
    assert ended(process).out.split() in (["hello", "0"], ["hello", "1"])


@pytest.mark.parametrize("option", options("wait", "-u", "--umask"))
@pytest.mark.parametrize("mode", ["027", "0000", "7"])
def test_the_umask_of_the_command(wait: Program, option: str, mode: str) -> None:
    done = wait.run(option, mode, "--", "/bin/sh", "-c", "umask")
    assert int(done.out, 8) == int(mode, 8)


@pytest.mark.proves("wait without a command")
def test_without_a_command_it_ends(wait: Program) -> None:
    for words in (("-f", "/"), ("-f", "/", "--")):
        assert wait.run(*words).code == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [(["/bin/sh", "-c", "exit 7"], 7), (["no-such"], 127), (["/etc/passwd"], 126)],
)
@pytest.mark.proves("wait exit codes")
def test_the_exit_code_is_that_of_the_command(wait: Program, words: list[str], code: int) -> None:
    done = wait.run("-f", "/", "--", *words)
    assert done.code == code
    assert code < 100 or words[0] in done.err


# ------------------------------------------------------------------------- time and signals


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (["-f", "no\nfile"], "file no\nfile"),
        (["-i", "eth9"], "interface eth9"),
        (["-I", "eth9"], "an IP address on eth9"),
        (["-6", "-I", "eth9"], "an IPv6 address on eth9"),
        (["-t", "tcp:9"], "this container to answer on TCP port 9"),
        (["-t", "no.such.invalid:9"], "no.such.invalid to answer on TCP port 9"),
        (["-c", "exit 3"], "success of: exit 3"),
        (["--ready"], "the links of this container to be as declared"),
        (["-f", "/", "-f", "/no", "-f", "/later"], "file /no"),
    ],
)
@pytest.mark.proves("wait --timeout", "wait --timeout names the condition")
def test_timeout_names_what_was_not_met(inside: Program, words: list[str], missing: str) -> None:
    started = time.monotonic()
    done = inside.run(*words, "--timeout", "0.3", "--", "echo", "not reached")
    assert (done.code, done.out) == (124, "")
    assert done.err.endswith(f"wait: timed out after 0.3 s, waiting for {missing}\n")
    assert time.monotonic() - started >= 0.3


@pytest.mark.proves("wait --timeout", "wait --timeout names the condition")
def test_a_host_that_never_answers(inside: Program, net: int) -> None:
    """What is sent to it is lost: not even an error comes back."""
    ip(net, "link", "add", "eth0", "up", "type", "veth", "peer", "name", "eth1")
    ip(net, "link", "set", "eth1", "up")
    ip(net, "address", "add", "10.0.0.1/24", "dev", "eth0")
    ip(net, "neigh", "add", "10.0.0.2", "lladdr", "02:00:00:00:00:02", "dev", "eth0")
    started = time.monotonic()
    done = inside.run("-t", "10.0.0.2:80", "--timeout", "0.5")
    took = time.monotonic() - started
    assert (done.code, took < 5) == (124, True), (
        f"{done} after {took} s"
    )  # the limit of one attempt
    assert done.err.endswith(
        "wait: timed out after 0.5 s, waiting for 10.0.0.2 to answer on TCP port 80\n"
    )


@pytest.mark.proves("wait --timeout", "wait --timeout names the condition")
def test_a_command_that_never_ends_is_ended_with_all_that_it_began(
    wait: Program, tmp_path: Path
) -> None:
    line = "trap '' TERM; sleep 1000 & echo $$ $! >pids; wait; sleep 1000"
    done = wait.run("-c", line, "--timeout", "0.5", cwd=tmp_path)
    assert done.code == 124
    assert done.err.endswith(f"wait: timed out after 0.5 s, waiting for success of: {line}\n")
    for pid in (tmp_path / "pids").read_text().split():
        until(lambda pid=pid: gone(int(pid)), f"{pid} is gone", seconds=5)


def gone(pid: int) -> bool:
    try:
        return ") Z" in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


@pytest.mark.proves("wait without --timeout")
def test_without_timeout_a_condition_may_take_its_time(wait: Program, tmp_path: Path) -> None:
    process = wait.start(
        "-s", "0.01", "-c", "echo x >>tries; [ $(wc -l <tries) = 20 ]", cwd=tmp_path
    )
    assert ended(process).code == 0
    assert (tmp_path / "tries").read_text() == "x\n" * 20


@pytest.mark.parametrize("option", options("wait", "-s", "--sleep"))
def test_sleep_is_the_time_between_two_looks(wait: Program, tmp_path: Path, option: str) -> None:
    started = time.monotonic()
    done = wait.run(option, "0.4", "-c", "echo x >>tries; [ $(wc -l <tries) = 3 ]", cwd=tmp_path)
    assert done.code == 0
    assert time.monotonic() - started >= 0.8


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
@pytest.mark.parametrize("words", [[], ["--timeout", "1000"]])
@pytest.mark.proves("wait signals", "wait exit codes")
def test_a_signal_ends_it_and_its_command(
    wait: Program, tmp_path: Path, number: signal.Signals, code: int, words: list[str]
) -> None:
    os.mkfifo(tmp_path / "began")
    line = "echo $$ >began; sleep 1000; true"
    process = wait.start(*words, "-c", line, "--", "echo", "not reached", cwd=tmp_path)
    pid = int((tmp_path / "began").read_text())
    process.send_signal(number)
    done = ended(process)
    assert (done.code, done.out, done.err) == (code, "", "")
    until(lambda: gone(pid), f"{pid} is gone", seconds=5)


# ---------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "nothing to wait for"),
        (["-x"], "no option is called -x"),
        (["--fiel=x"], "no option is called --fiel"),
        (["eth0"], "'eth0' belongs to no option; COMMAND stands after --"),
        (["-i"], "-i takes a value"),
        (["-i", "--", "x"], "-i takes a value"),
        (["--file", ""], "the value of --file is empty"),
        (["--file="], "the value of --file is empty"),
        (["-t", "db"], "-t takes HOST:PORT, [IPV6]:PORT or tcp:PORT: 'db'"),
        (["-t", "db:0"], "-t takes HOST:PORT, [IPV6]:PORT or tcp:PORT: 'db:0'"),
        (["-t", "db:65536"], "-t takes HOST:PORT, [IPV6]:PORT or tcp:PORT: 'db:65536'"),
        (["-t", "db:999999999"], "-t takes HOST:PORT, [IPV6]:PORT or tcp:PORT: 'db:999999999'"),
        (["-t", "fd00::1:80"], "-t takes HOST:PORT, [IPV6]:PORT or tcp:PORT: 'fd00::1:80'"),
        (["-t", "-e:80"], "-t takes HOST:PORT, [IPV6]:PORT or tcp:PORT: '-e:80'"),
        (["-t", "a b:80"], "-t takes HOST:PORT, [IPV6]:PORT or tcp:PORT: 'a b:80'"),
        (["-t", "a:1,,b:2"], "-t takes HOST:PORT, [IPV6]:PORT or tcp:PORT: ''"),
        (["-s", "0"], "-s takes seconds, more than 0: '0'"),
        (["-s", "1e3"], "-s takes seconds, more than 0: '1e3'"),
        (["--timeout", "-5"], "--timeout takes seconds, more than 0: '-5'"),
        (["--timeout=1.2.3"], "--timeout takes seconds, more than 0: '1.2.3'"),
        (["-u", "u=rwx"], "-u takes an octal mode, such as 022: 'u=rwx'"),
        (["-u", "00022"], "-u takes an octal mode, such as 022: '00022'"),
        (["-u", "7777"], "-u takes an octal mode, such as 022: '7777'"),
    ],
)
@pytest.mark.proves("wait wrong words", "wait exit codes")
def test_wrong_words_are_told_before_anything_is_done(
    wait: Program, tmp_path: Path, words: list[str], reason: str
) -> None:
    before = ["-c", "touch owned"] if words else []
    done = wait.run(*before, *words, cwd=tmp_path)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"wait: {reason}; see wait --help\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.proves("wait --file", "wait --timeout", "wait --cmd")
def test_long_options_take_their_value_either_way(wait: Program, tmp_path: Path) -> None:
    (tmp_path / "a=b").touch()
    assert wait.run("--file=a=b", "--timeout=1", "--cmd=true", cwd=tmp_path).code == 0


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.proves("wait help")
def test_help_fits_a_screen(wait: Program, built: Path, option: str) -> None:
    done = wait.run(option)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert (len(lines) <= 23, max(map(len, lines)) < 80) == (True, True)
    static = subprocess.run(
        [built / "static/wait", "-h"], capture_output=True, text=True, check=True
    )
    assert done.out == static.stdout, "all forms say the same"


@pytest.mark.proves("wait static", "wait without a shell")
def test_without_a_shell_a_command_is_its_words(built: Path, tmp_path: Path) -> None:
    """The static program in a root directory with nothing but it and busybox."""
    for source in (built / "static/wait", Path("/bin/busybox")):
        (tmp_path / source.name).write_bytes(source.read_bytes())
        (tmp_path / source.name).chmod(0o755)
    here = Program(("/wait",), "/", ("/usr/sbin/chroot", tmp_path))
    done = here.run("-c", " /busybox  test -x /wait ", "--", "/busybox", "echo", "there")
    assert (done.code, done.out, done.err) == (0, "there\n", "")
    assert here.run("-c", "/busybox false", "--timeout", "0.1").code == 124
    done = here.run("-c", "/no such", "--timeout", "0.1")
    assert "wait: /no: No such file or directory\n" in done.err


def test_a_shell_without_nc_or_ip_is_told_so(built: Path, tmp_path: Path) -> None:
    here = Program(("/bin/dash", str(built.parent / "x")), str(tmp_path))
    script = Path(__file__).parents[2] / "tools/wait.sh"
    here = replace(here, argv=("/bin/dash", str(script)))
    for word, reason in (
        ("-t", "wait: -t takes a program nc that knows -z or -e, which is not here"),
        ("-I", "wait: -I takes the program ip, which is not here"),
    ):
        done = here.run(word, "x:1")
        assert (done.code, done.err) == (1, f"{reason}; see wait --help\n")
