"""copy: one tree laid over another, with templates; then the command replaces it."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tools.programs import Program

NAMES = [
    "plain", "two words", "-rf", "--", "line\nfeed", "end\n", ".hidden", "..twice", "*", "[a-z]",
    "'\"\\", "$x", "`id`", "{{FOO}}", "tab\t", "\udcff\udc80", "caf\u00e9",
]  # fmt: skip
BINARY = bytes(range(256)) * 3 + b"{{FOO}}"
AS_A_USER = ("/usr/bin/setpriv", "--reuid=1000", "--regid=1000", "--clear-groups")
as_root = pytest.mark.skipif(
    Path("/proc/self/uid_map").read_text().split()[2:] == ["1"] or os.geteuid() != 0,
    reason="takes more than one user; .ci/run runs it, as root",
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def tree(root: Path) -> dict[str, str | bytes | None]:
    """What is in a tree: files with what they hold, links with what they name."""
    found: dict[str, str | bytes | None] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = str(path.readlink())
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


@pytest.fixture
def src(tmp_path: Path) -> Path:
    made = tmp_path / "src of it"
    made.mkdir()
    return made


@pytest.fixture
def dst(tmp_path: Path) -> Path:
    return tmp_path / "dst"


# -------------------------------------------------------------------------------- the tree


@pytest.mark.proves("copy recursive", "copy names with spaces")
def test_everything_is_copied_whatever_it_is_called(copy: Program, src: Path, dst: Path) -> None:
    for name in NAMES:
        (src / name).write_bytes(BINARY)
        (src / "sub" / name).mkdir(parents=True)
        (src / "sub" / name / "empty").touch()
    done = copy.run(src, dst, env={"FOO": "no"})
    assert (done.code, done.out, done.err) == (0, "", "")
    assert tree(dst) == tree(src)


@pytest.mark.proves("copy overlay")
def test_it_is_laid_over_what_is_there(copy: Program, src: Path, dst: Path) -> None:
    for root, text in ((src, "new"), (dst, "old")):
        (root / "a/b").mkdir(parents=True)
        (root / "a/b/both").write_text(text)
        (root / f"a/{text}").write_text(text)
    assert copy.run(src, dst).code == 0
    assert tree(dst) == {
        "a": None, "a/b": None, "a/b/both": b"new", "a/new": b"new", "a/old": b"old",
    }  # fmt: skip


@pytest.mark.proves("copy recursive", "copy modes")
def test_where_nothing_is_the_directories_are_made(copy: Program, src: Path, dst: Path) -> None:
    (src / "file").write_text("x")
    src.chmod(0o751)
    for name in ("a", "b/c/d", "e//"):
        assert copy.run(src, f"{dst}/{name}").code == 0
        assert tree(dst / name) == {"file": b"x"}
        assert mode(dst / name) == 0o751


@pytest.mark.parametrize("into", ["dst", "dst/new", "./dst"])
@pytest.mark.proves("copy one file", "copy modes")
def test_one_file(copy: Program, tmp_path: Path, into: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "dst").mkdir()
    assert copy.run("file", into, cwd=tmp_path).code == 0
    made = tmp_path / ("dst/new" if into == "dst/new" else "dst/file")
    assert (made.read_text(), mode(made)) == ("x", 0o640)


@pytest.mark.proves("copy modes", "copy writable")
def test_modes_are_kept_and_the_owner_may_write(copy: Program, src: Path, dst: Path) -> None:
    modes = (0o644, 0o755, 0o600, 0o4755, 0o2711, 0o444, 0o111, 0o000, 0o1777)
    for bits in modes:
        (src / f"file{bits:o}").write_text("{{FOO}}")
        (src / f"file{bits:o}").chmod(bits)
        (src / f"dir{bits:o}").mkdir()
        (src / f"dir{bits:o}").chmod(bits | 0o500)
    for words in ((), ("-T",)):
        assert copy.run(*words, src, dst, env={"FOO": "x"}).code == 0
        for bits in modes:
            assert oct(mode(dst / f"file{bits:o}")) == oct(bits | 0o200)
            assert oct(mode(dst / f"dir{bits:o}")) == oct(bits | 0o700)


@pytest.mark.proves("copy overlay")
def test_a_directory_that_is_there_keeps_its_mode(copy: Program, src: Path, dst: Path) -> None:
    (src / "tmp").mkdir(mode=0o700)
    (dst / "tmp").mkdir(parents=True)
    (dst / "tmp").chmod(0o1777)
    src.chmod(0o700)
    dst.chmod(0o755)
    assert copy.run(src, dst).code == 0
    assert (mode(dst), mode(dst / "tmp")) == (0o755, 0o1777)


@as_root
@pytest.mark.proves("copy owner")
def test_all_of_it_belongs_to_root(copy: Program, src: Path, dst: Path) -> None:
    (src / "dir").mkdir()
    (src / "dir/file").write_text("x")
    (src / "link").symlink_to("dir")
    (dst / "dir").mkdir(parents=True)
    (dst / "dir/file").write_text("old")
    for path in (src / "dir", src / "dir/file", src / "link", dst / "dir/file", dst / "dir"):
        os.chown(path, 1000, 1000, follow_symlinks=False)
    (src / "new").mkdir()
    (src / "new").chmod(0o2755)
    assert copy.run(src, dst).code == 0
    owners = {
        str(path.relative_to(dst)): (path.lstat().st_uid, path.lstat().st_gid)
        for path in dst.rglob("*")
    }
    assert owners == {
        "dir": (1000, 1000), "dir/file": (0, 0), "link": (0, 0), "new": (0, 0),
    }  # fmt: skip


@as_root
@pytest.mark.proves("copy owner without root", "copy writable")
def test_without_root_it_belongs_to_who_copied_it(copy: Program, tmp_path: Path) -> None:
    """And a file that the owner may not write is made anew."""
    home = tmp_path / "home"
    (home / "src").mkdir(parents=True)
    (home / "dst").mkdir()
    for name, text in (("src/plain", "new"), ("src/text", "{{FOO}}"), ("dst/plain", "old")):
        (home / name).write_text(text)
        (home / name).chmod(0o444)
    (home / "dst/text").write_text("old")
    (home / "dst/text").chmod(0o400)
    for path in (home, *home.rglob("*")):
        os.chown(path, 1000, 1000)
    for parent in list(tmp_path.parents)[:2]:
        parent.chmod(0o755)
    tmp_path.chmod(0o755)
    user = replace(copy, before=AS_A_USER)
    done = user.run("-T", home / "src", home / "dst", env={"FOO": "filled"})
    assert (done.code, done.err) == (0, "")
    assert tree(home / "dst") == {"plain": b"new", "text": b"filled"}
    assert {path.stat().st_uid for path in (home / "dst").iterdir()} == {1000}
    assert {oct(mode(path)) for path in (home / "dst").iterdir()} == {"0o644"}


# ----------------------------------------------------------------------- links, and in the way


@pytest.mark.proves("copy links")
def test_a_link_is_copied_as_a_link(copy: Program, src: Path, dst: Path) -> None:
    targets = {
        "dangling": "no/where",
        "up": "..",
        "feed": "line\nfeed\n",
        "dash": "-x",
        "root": "/",
    }
    (dst / "kept").mkdir(parents=True)
    (dst / "dangling").symlink_to("elsewhere")
    (dst / "up").symlink_to("kept")  # a link to a directory: nothing is put into it
    (dst / "dash").write_text("a file")
    for name, target in targets.items():
        (src / name).symlink_to(target)
    for _ in range(2):
        done = copy.run(src, dst)
        assert (done.code, done.err) == (0, "")
        assert tree(dst) == {**targets, "kept": None}


@pytest.mark.proves("copy links", "copy overlay")
def test_a_link_to_a_directory_stands_for_it(copy: Program, src: Path, dst: Path) -> None:
    """As /lib does for /usr/lib in many images."""
    (src / "lib").mkdir()
    (src / "lib/new").write_text("new")
    (dst / "usr/lib").mkdir(parents=True)
    (dst / "lib").symlink_to("usr/lib")
    assert copy.run(src, dst).code == 0
    assert tree(dst) == {"lib": "usr/lib", "usr": None, "usr/lib": None, "usr/lib/new": b"new"}


@pytest.mark.parametrize("words", [(), ("-T",)])
@pytest.mark.proves("copy links")
def test_a_file_takes_the_place_of_a_link(
    copy: Program, src: Path, dst: Path, words: tuple[str, ...]
) -> None:
    """What the link named is not written to."""
    (src / "file").write_text("{{FOO}}")
    dst.mkdir()
    (dst / "precious").write_text("precious")
    (dst / "file").symlink_to("precious")
    assert copy.run(*words, src, dst, env={"FOO": "x"}).code == 0
    assert tree(dst) == {"precious": b"precious", "file": b"x" if words else b"{{FOO}}"}


@pytest.mark.proves("copy overlay")
def test_a_file_that_is_there_stays_the_same_file(copy: Program, src: Path, dst: Path) -> None:
    """Engines mount single files, such as /etc/hosts: those cannot be replaced, only written."""
    (src / "hosts").write_text("{{FOO}}\n")
    dst.mkdir()
    (dst / "hosts").write_text("much longer than what comes\n")
    before = (dst / "hosts").stat().st_ino
    for words, text in (((), "{{FOO}}\n"), (("-T",), "x\n")):
        assert copy.run(*words, src, dst, env={"FOO": "x"}).code == 0
        assert ((dst / "hosts").read_text(), (dst / "hosts").stat().st_ino) == (text, before)


@pytest.mark.proves("copy overlay")
def test_a_program_that_runs_makes_room(copy: Program, src: Path, dst: Path) -> None:
    dst.mkdir()
    for root in (src, dst):
        (root / "sleep").write_bytes(Path("/bin/busybox").read_bytes())
        (root / "sleep").chmod(0o755)
    with subprocess.Popen([dst / "sleep", "1000"]) as running:
        done = copy.run(src, dst)
        running.kill()
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(
    ("come", "there", "reason"),
    [
        ("file", "dir", "dst/x is in the way: it is no file, and src/x is one"),
        ("dir", "file", "dst/x is in the way: it is no directory, and src/x is one"),
        ("dir", "dangling", "dst/x is in the way: it is no directory, and src/x is one"),
        ("dangling", "dir", "dst/x is in the way: it is a directory, and src/x is a link"),
        ("file", "fifo", "dst/x is in the way: it is no file, and src/x is one"),
        ("fifo", "nothing", "src/x is neither a file nor a directory nor a link"),
    ],
)
@pytest.mark.proves("copy what is in the way")
def test_what_is_in_the_way_is_named_and_stays(
    copy: Program, tmp_path: Path, come: str, there: str, reason: str
) -> None:
    for root, kind in (("src", come), ("dst", there)):
        (tmp_path / root).mkdir()
        path = tmp_path / root / "x"
        match kind:
            case "file":
                path.write_text("x")
            case "dir":
                path.mkdir()
            case "fifo":
                os.mkfifo(path)
            case "dangling":
                path.symlink_to("nowhere")
    before = (tmp_path / "dst/x").lstat() if there != "nothing" else None
    done = copy.run("src", "dst", "--", "echo", "not reached", cwd=tmp_path)
    assert (done.code, done.out, done.err) == (1, "", f"copy: {reason}\n")
    if before:
        after = (tmp_path / "dst/x").lstat()
        assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


# -------------------------------------------------------------------------------- templates


def rendered(text: bytes, env: dict[str, str]) -> bytes:
    """What a template should become, said in one line of another language."""

    def value(found: re.Match[bytes]) -> bytes:
        name = found[1].decode()
        return os.fsencode(env[name]) if name in env else found[0]

    return re.sub(rb"\{\{([A-Za-z_][A-Za-z0-9_]*)\}\}", value, text)


VALUES = {
    "FOO": "123",
    "EMPTY": "",
    "SLASHES": "a/b//c",
    "AMPERSAND": "a & b && \\&",
    "QUOTES": "'\"`",
    "BACKSLASH": "\\ \\n \\1 \\\\",
    "FEED": "one\ntwo\n",
    "AGAIN": "{{FOO}}",
    "PERCENT": "%s %d",
    "DOLLAR": "$FOO $(id) ${FOO}",
    "BYTES": "\udcff\u00e9",
    "lower_1": "l",
    "_": "underscore",
}
TEXTS = [
    b"",
    b"no end",
    b"an end\n",
    b"\n\n{{FOO}}\n\n",
    b"{{FOO}}",
    b"{{FOO}}{{FOO}} {{FOO}}}} {{{FOO}}} {{{{FOO}}}}",
    b"{{ FOO }} {{FOO {{}} {{1X}} {{F-O}} {FOO} {{FOO}} }}",
    b"crlf {{FOO}}\r\n\xff\xfe {{FOO}}\n",
    b"{{" * 1000 + b"FOO}}",
    b"x" * 70000 + b"{{FOO}}" + b"y" * 70000,
    *(b"a {{%s}} b\n" % name.encode() for name in VALUES if name != "_"),
]


@pytest.mark.proves(
    "copy -T",
    "copy -T slashes",
    "copy -T ampersands",
    "copy -T quotes",
    "copy -T backslashes",
    "copy -T newlines",
)
def test_templates(copy: Program, src: Path, dst: Path) -> None:
    for number, text in enumerate(TEXTS):
        (src / f"{number}").write_bytes(text)
    env = {name: os.fsencode(value) for name, value in VALUES.items() if name != "_"}
    done = copy.run("-T", src, dst, env=env)
    assert (done.code, done.err) == (0, "")
    for number, text in enumerate(TEXTS):
        assert (dst / f"{number}").read_bytes() == rendered(text, VALUES), text[:80]


PIECES = st.lists(st.sampled_from([*"{}A\n \r\u00e9&\\", "{{", "}}", "B_1", "{{A}}"]))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(PIECES.map("".join), min_size=5, max_size=10),
    value=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)
@pytest.mark.proves("copy --template")
def test_templates_of_any_text(
    copy: Program, tmp_path_factory: pytest.TempPathFactory, texts: list[str], value: str
) -> None:
    here = tmp_path_factory.mktemp("any")
    (here / "src").mkdir()
    for number, text in enumerate(texts):
        (here / "src" / f"{number}").write_bytes(text.encode())
    done = copy.run("--template", here / "src", here / "dst", env={"A": value.encode()})
    assert done.code == 0, done.err
    for number, text in enumerate(texts):
        made = (here / "dst" / f"{number}").read_bytes()
        assert made == rendered(text.encode(), {"A": value})


@pytest.mark.proves("copy unset variable")
def test_what_is_not_set_is_left_as_it_is_and_named(copy: Program, src: Path, dst: Path) -> None:
    text = "{{FOO}} {{BAR}}\n\n{{BAZ}}{{BAR}}\n"
    (src / "file").write_text(text)
    done = copy.run("-T", src, dst, "--", "echo", "reached", env={"FOO": ""})
    assert (done.code, done.out) == (0, "reached\n")
    assert done.err.splitlines() == [
        f"copy: {src}/file:1: BAR is not set, and left as it is",
        f"copy: {src}/file:3: BAZ is not set, and left as it is",
        f"copy: {src}/file:3: BAR is not set, and left as it is",
    ]
    assert (dst / "file").read_text() == text.replace("{{FOO}}", "")


@pytest.mark.proves("copy -T leaves what is no text")
def test_what_is_no_text_is_no_template(copy: Program, src: Path, dst: Path) -> None:
    (src / "binary").write_bytes(BINARY)
    (src / "link").symlink_to("{{FOO}}")
    (src / "{{FOO}}").write_text("{{FOO}}")
    assert copy.run("-T", src, dst, env={"FOO": "x"}).code == 0
    assert tree(dst) == {"binary": BINARY, "link": "{{FOO}}", "{{FOO}}": b"x"}


@pytest.mark.proves("copy without -T")
def test_without_the_option_nothing_is_replaced(copy: Program, src: Path, dst: Path) -> None:
    (src / "file").write_text("{{FOO}} {{BAR}}")
    assert copy.run(src, dst, env={"FOO": "x"}).err == ""
    assert (dst / "file").read_text() == "{{FOO}} {{BAR}}"


# ---------------------------------------------------------------------- command, wrong words


@pytest.mark.proves("copy -- COMMAND")
def test_the_command_replaces_it(copy: Program, src: Path, dst: Path) -> None:
    """With its words, environment and umask as they were."""
    env = {"SRC": "a\nb", "file": "x", "line": "'", "IFS": "/"}
    tell = "import json, os, sys; json.dump([os.getpid(), sys.argv[1:], os.umask(0), dict(os.environ)], sys.stdout)"  # noqa: E501 - one program
    words = ["a b", "", "--", "-T", "line\nfeed", "*"]
    process = copy.start("-T", src, dst, "--", sys.executable, "-c", tell, *words, env=env)
    out, _err = process.communicate()
    pid, argv, umask, environment = json.loads(out)
    own = os.umask(0)
    os.umask(own)
    assert (pid, argv, umask) == (process.pid, words, own)
    kept = ("SRC", "file", "line")
    assert {key: environment.get(key) for key in kept} == {key: env[key] for key in kept}


@pytest.mark.proves("copy -- COMMAND")
def test_copy_and_wait_follow_each_other(
    copy: Program, wait: Program, src: Path, dst: Path
) -> None:
    (src / "file").touch()
    done = copy.run(src, dst, "--", *wait.argv, "-f", dst / "file", "--", "echo", "both")
    assert (done.code, done.out, done.err) == (0, "both\n", "")


@pytest.mark.parametrize(
    ("words", "code"),
    [(["/bin/sh", "-c", "exit 7"], 7), (["no-such"], 127), (["/etc/passwd"], 126)],
)
@pytest.mark.proves("copy exit codes")
def test_the_exit_code_is_that_of_the_command(
    copy: Program, src: Path, dst: Path, words: list[str], code: int
) -> None:
    assert copy.run(src, dst, "--", *words).code == code


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "SRC and DST are needed; see copy --help"),
        (["src"], "SRC and DST are needed; see copy --help"),
        (["src", "--", "x"], "SRC and DST are needed; see copy --help"),
        (["-x", "src", "dst"], "no option is called -x; see copy --help"),
        (["src", "-dst"], "'-dst' is no path (./-dst is); see copy --help"),
        (["src", ""], "'' is no path (./ is); see copy --help"),
        (["src", "dst", "x"], "'x' is one word too many; COMMAND stands after --; see copy --help"),
        (["none", "dst"], "there is no none"),
        (["/dev/null", "dst"], "/dev/null is neither a file nor a directory"),
        (["src", "src"], "src is inside src"),
        (["src", "src/sub/new/er"], "src/sub/new/er is inside src"),
        (["src", "here/sub"], "here/sub is inside src"),
        (["src/file", "src/file"], "src/file and src/file are one file"),
        (["-T", "src/file", "src"], "src/file and src/file are one file"),
        (["src", "plain"], "plain is in the way: it is no directory, and src is one"),
    ],
)
@pytest.mark.proves("copy wrong words", "copy exit codes")
def test_wrong_words_change_nothing(
    copy: Program, tmp_path: Path, words: list[str], reason: str
) -> None:
    (tmp_path / "src/sub").mkdir(parents=True)
    (tmp_path / "src/file").write_text("{{HOME}}")
    (tmp_path / "here").symlink_to("src")
    (tmp_path / "plain").touch()
    before = tree(tmp_path)
    done = copy.run(*words, cwd=tmp_path)
    assert (done.code, done.out, done.err) == (1, "", f"copy: {reason}\n")
    assert tree(tmp_path) == before


@as_root
@pytest.mark.parametrize("words", [(), ("-T",)])
@pytest.mark.parametrize(
    ("unreadable", "mode"),
    [
        pytest.param("src/file", 0o600, marks=pytest.mark.proves("copy unreadable file")),
        *(
            pytest.param(
                *(place, mode),
                marks=pytest.mark.proves("copy unreadable directory"),
                id=f"{place}-{mode:o}",
            )
            for place in ("src", "src/dir")
            for mode in (0o700, 0o711, 0o744)  # to list it takes one right, to use it another
        ),
    ],
)
@pytest.mark.proves("copy exit codes")
def test_what_cannot_be_read_is_named(
    copy: Program, tmp_path: Path, words: tuple[str, ...], unreadable: str, mode: int
) -> None:
    (tmp_path / "src/dir").mkdir(parents=True)
    (tmp_path / "src/file").write_text("x")
    (tmp_path / "src/dir/file").write_text("x")
    (tmp_path / unreadable).chmod(mode)
    for parent in (tmp_path, *list(tmp_path.parents)[:2]):
        parent.chmod(0o755)
    user = replace(copy, before=AS_A_USER)
    (tmp_path / "dst").mkdir()
    os.chown(tmp_path / "dst", 1000, 1000)
    done = user.run(*words, tmp_path / "src", tmp_path / "dst", "--", "echo", "not reached")
    assert (done.code, done.out) == (1, "")
    assert str(tmp_path / unreadable) in done.err
    assert "is inside" not in done.err, "that is not what is wrong"


@pytest.mark.proves("copy static", "copy without a shell")
def test_without_a_shell_it_copies_and_becomes_itself(built: Path, tmp_path: Path) -> None:
    """The static program in a root directory with nothing but it."""
    (tmp_path / "copy").write_bytes((built / "static/copy").read_bytes())
    (tmp_path / "copy").chmod(0o755)
    (tmp_path / "src").mkdir()
    (tmp_path / "src/two words").write_text("{{FOO}}")
    here = Program(("/copy",), "/", ("/usr/sbin/chroot", tmp_path))
    words = ("-T", "/src", "/first", "--", "/copy", "/first", "/second")
    done = here.run(*words, env={"FOO": "a/b & 'c'"})
    assert (done.code, done.out, done.err) == (0, "", "")
    assert tree(tmp_path / "second") == {"two words": b"a/b & 'c'"}


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.proves("copy help")
def test_help_fits_a_screen(copy: Program, built: Path, option: str) -> None:
    done = copy.run(option)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert (len(lines) <= 23, max(map(len, lines)) < 80) == (True, True)
    assert done.out == Program((str(built / "static/copy"),), "").run("-h").out, "all say the same"
