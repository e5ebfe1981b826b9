"""The real `mdc`, in a directory of its own, with a compose that says how it was called.

Real compose: test_mdc_compose.py, and tests/docker/test_mdc.py for containers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

MDC = Path(sys.executable).with_name("mdc")
OWN = ("MODES_DIR", "ENV_FILE", "MDC_FILES_DIR", "DOCKER_COMPOSE", "COMPOSE_FILE")


@dataclass(frozen=True, slots=True)
class Result:
    code: int
    out: str
    err: str


@dataclass(slots=True)
class Project:
    """A directory that somebody works in."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    def write(self, files: dict[str, str], below: str = "modes") -> None:
        for name, text in files.items():
            path = self.root / below / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def mdc(self, *words: str, under: Sequence[str] = (), **variables: str) -> Result:
        inherited = {name: value for name, value in os.environ.items() if name not in OWN}
        done = subprocess.run(
            [*under, MDC, *words],
            cwd=self.root,
            env={**inherited, **self.environment, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    def refused(self, *words: str, under: Sequence[str] = (), **variables: str) -> str:
        """Run mdc, see that it fails and changes nothing, and return what it said."""
        before = self.everything()
        result = self.mdc(*words, under=under, **variables)
        assert result.code == 1, result
        assert result.out == "", result.out
        assert self.everything() == before
        said, end, after = result.err.rpartition("Nothing was written.\n")
        assert (end != "", after) == (True, ""), result.err
        return said.rstrip("\n")

    def variables(self, file: str = ".env") -> dict[str, str]:
        """Return the env file as a shell reads it that knows nothing else."""
        script = f"set -a; . ./{file}; exec env -0"
        words = ["env", "-i", f"PATH={os.environ['PATH']}", "sh", "-c", script]
        done = subprocess.run(words, cwd=self.root, capture_output=True, text=True, check=True)
        return dict(each.split("=", 1) for each in done.stdout.split("\0") if each)

    def everything(self) -> dict[str, tuple[str, int, bytes]]:
        """Return all that is there: path → kind, permissions, content."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            mode = path.lstat().st_mode
            if path.is_symlink():
                kind, content = "link", os.fsencode(path.readlink())
            elif path.is_dir():
                kind, content = "directory", b""
            else:
                kind, content = "file", path.read_bytes() if path.is_file() else b""
            found[str(path.relative_to(self.root))] = (kind, mode, content)
        return found

    def files(self, below: str = ".files") -> dict[str, str]:
        """Return the files of the overlay: path → text."""
        top = self.root / below
        return {
            str(path.relative_to(top)): path.read_text()
            for path in sorted(top.rglob("*"))
            if path.is_file() and path != top / ".mdc"
        }


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a project with three modes: c needs b, and b needs a."""
    made = Project(tmp_path / "work")
    made.write(
        {
            "a/compose.yaml": "services: {a: {image: alpine}}\n",
            "b/compose.yml": "services: {b: {image: alpine}}\n",
            "b/deps": "a\n",
            "c/deps": "b  # and so a\n",
            "c/docker-compose.yaml": "services: {c: {image: alpine}}\n",
        }
    )
    return made


@pytest.fixture
def compose(tmp_path: Path) -> str:
    """Return a program that prints its words, one a line, and what compose reads."""
    program = tmp_path / "my compose"
    program.write_text(
        "#!/bin/sh\n"
        'for word; do echo "word <$word>"; done\n'
        "for name in COMPOSE_FILE COMPOSE_PROFILES MDC_MODE_x OTHER; do\n"
        'eval "is=\\${$name-unset}"; echo "$name $is"; done\n'
        "exit 7\n"
    )
    program.chmod(0o755)
    return f"'{program}' --own 'a b'"


# ------------------------------------------------------------------------ the env file


@pytest.mark.proves(
    "mdc deps comments",
    "mdc COMPOSE_FILE",
    "mdc COMPOSE_DIR",
    "mdc COMPOSE_PROFILES",
    "mdc MDC_MODE_DIRS",
    "mdc MDC_MODE_mode",
)
def test_modes_and_what_they_need_are_written_in_order(project: Project) -> None:
    result = project.mdc("c")
    assert (result.code, result.out) == (0, "")
    assert result.err == "mdc: a b c in .env\n"
    assert project.variables() == {
        "COMPOSE_FILE": ".mdc-compose.yaml:modes/a/compose.yaml:modes/b/compose.yml"
        ":modes/c/docker-compose.yaml",
        "COMPOSE_DIR": str(project.root),
        "COMPOSE_PROFILES": "MODE_a,MODE_b,MODE_c",
        "MDC_MODE_DIRS": "modes/a,modes/b,modes/c",
        "MDC_MODE_a": "enabled",
        "MDC_MODE_b": "enabled",
        "MDC_MODE_c": "enabled",
        "PATH": os.environ["PATH"],
        "PWD": str(project.root),
    }
    assert not (project.root / ".files").exists()


@pytest.mark.parametrize("words", ["a,c", "a c", "c, a", "c  a\nb", "b|c c"])
@pytest.mark.proves("mdc MODES by commas and blanks")
def test_modes_are_separated_by_commas_or_blanks(project: Project, words: str) -> None:
    assert project.mdc(words).err == "mdc: a b c in .env\n"


@pytest.mark.proves("mdc deps either-or", "mdc deps order only", "mdc shortest resolution")
def test_either_or_and_order_only(project: Project) -> None:
    project.write({"x/deps": "big|small, +z", "big/deps": "c", "small/deps": "", "z/deps": ""})
    assert project.mdc("x").err == "mdc: small x in .env\n"
    assert project.mdc("x,big").err == "mdc: a b c big x in .env\n"
    assert project.mdc("x,z").err == "mdc: small z x in .env\n"


@pytest.mark.parametrize(
    ("deps", "resolution"),
    [
        pytest.param(
            {"w": "# all that w needs\r\nq,r\ts # and so a\n\n#b\n", "q": "", "r": "", "s": "a"},
            "a q r s w",
            marks=pytest.mark.proves("mdc deps blanks, commas and lines", "mdc deps comments"),
        ),
        pytest.param(
            {"x": "a", "y": "a x", "z": "a", "w": "a z|y"},
            "a z w",
            marks=pytest.mark.proves("mdc deps either-or", "mdc shortest resolution"),
        ),
        pytest.param(
            {"w": "q|r r|s", "q": "", "r": "", "s": ""},  # r stands for two entries
            "r w",
            marks=pytest.mark.proves("mdc shortest resolution"),
        ),
        pytest.param(
            {"w": "q|r", "q": "c", "r": "b"},  # what they need counts too
            "a b r w",
            marks=pytest.mark.proves("mdc shortest resolution"),
        ),
        pytest.param(
            {"w": "s|r|q", "q": "", "r": "", "s": ""},
            "q w",
            marks=pytest.mark.proves("mdc first by name of equally short"),
        ),
        pytest.param(
            {"w": "q|r", "q": "w", "r": "b"},
            "a b r w",
            marks=pytest.mark.proves("mdc cycle passed over"),
        ),
        pytest.param(
            {"w": "a +z", "z": "a"}, "a w", marks=pytest.mark.proves("mdc deps order only")
        ),
        pytest.param(
            {"w": "+z y", "y": "z", "z": "a"},
            "a z y w",
            marks=pytest.mark.proves("mdc deps order only"),
        ),
    ],
)
def test_the_resolution_of_a_mode(project: Project, deps: dict[str, str], resolution: str) -> None:
    project.write({f"{name}/deps": text for name, text in deps.items()})
    assert project.mdc("w").err == f"mdc: {resolution} in .env\n"


@pytest.mark.proves("mdc env file order", "mdc env and .env")
def test_env_files_are_joined_in_order_and_the_later_wins(project: Project) -> None:
    project.write(
        {
            "a/env": "ONE=a\nTWO=a",  # no end of line
            "a/.env": "THREE='a\nb'\n",
            "b/env": "TWO=b\nFOUR=${ONE}-${TWO}\n",
            "c/.env": '\ufeff# a remark with a "quote\nexport ONE="c"\nCOMPOSE_FILE=mine\nIT=it\'s',
        }
    )
    assert project.mdc("c").code == 0
    text = (project.root / ".env").read_text().replace("IT=it's\n", "")
    (project.root / "plain.env").write_text(text)
    found = project.variables("plain.env")
    wanted = {"ONE": "c", "TWO": "b", "THREE": "a\nb", "FOUR": "a-b"}
    assert {name: found[name] for name in wanted} == wanted
    assert found["COMPOSE_FILE"].startswith(".mdc-compose.yaml:")
    places = [text.index(f"# modes/{name}\n") for name in ("a/env", "a/.env", "b/env", "c/.env")]
    assert places == sorted(places)


@pytest.mark.proves("mdc MDC_MODE_mode", "mdc COMPOSE_PROFILES")
def test_a_name_of_a_mode_becomes_a_variable(project: Project) -> None:
    project.write({"node1/deps": "", "My-mode.2/deps": ""})
    assert project.mdc("node1 My-mode.2").code == 0
    found = project.variables()
    assert {name for name in found if name.startswith("MDC_MODE_") and name != "MDC_MODE_DIRS"} == {
        "MDC_MODE_node_",
        "MDC_MODE__y_mode__",
    }
    assert found["COMPOSE_PROFILES"] == "MODE_My-mode.2,MODE_node1"


@pytest.mark.proves("mdc compose file first found")
def test_of_several_compose_files_the_first_is_taken(project: Project) -> None:
    names = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"]
    for first in range(len(names)):
        mode = f"m{first}"
        project.write({f"{mode}/{name}": "services: {}\n" for name in names[first:]})
        project.mdc(mode)
        assert (
            project.variables()["COMPOSE_FILE"] == f".mdc-compose.yaml:modes/{mode}/{names[first]}"
        )
    project.write({"empty/deps": ""})
    project.mdc("empty")
    assert project.variables()["COMPOSE_FILE"] == ".mdc-compose.yaml"


@pytest.mark.proves(
    "mdc MODES_DIR",
    "mdc ENV_FILE",
    "mdc MDC_FILES_DIR",
    "mdc COMPOSE_DIR",
    "mdc MDC_MODE_DIRS",
    "mdc names with spaces",
)
def test_other_places_for_modes_env_file_and_trees(project: Project) -> None:
    (project.root / "modes").rename(project.root / "my modes")
    project.write({"a/svc/files/x": "x"}, below="my modes")
    (project.root / "out").mkdir()
    places = {"MODES_DIR": "my modes", "ENV_FILE": "out/it.env", "MDC_FILES_DIR": "out/one/two"}
    assert project.mdc("a", **places).code == 0
    found = project.variables("out/it.env")
    assert found["COMPOSE_FILE"] == "out/.mdc-compose.yaml:my modes/a/compose.yaml"
    assert found["COMPOSE_DIR"] == str(project.root / "out")
    assert found["MDC_MODE_DIRS"] == "my modes/a"
    assert project.files("out/one/two") == {"svc/x": "x"}
    assert not (project.root / ".env").exists()


# ------------------------------------------------------------------------ compose


@pytest.mark.proves("mdc without arguments")
def test_without_arguments_compose_does_not_run(project: Project, compose: str) -> None:
    assert project.mdc("a", DOCKER_COMPOSE=compose).out == ""


@pytest.mark.proves("mdc runs compose", "mdc DOCKER_COMPOSE", "mdc exit code of compose")
def test_compose_gets_its_words_the_env_file_and_no_variable_that_would_win_over_it(
    project: Project, compose: str
) -> None:
    words = ["up", "--dry-run", "$(id)", "a b", "--force", "--", ";", ""]
    mine = {"COMPOSE_FILE": "wrong", "COMPOSE_PROFILES": "wrong", "MDC_MODE_x": "wrong"}
    result = project.mdc("c", *words, DOCKER_COMPOSE=compose, OTHER="other", **mine)
    assert result.code == 7, result
    said = ["--own", "a b", "--env-file", ".env", *words]
    assert result.out.splitlines() == [
        *(f"word <{word}>" for word in said),
        *(f"{name} unset" for name in ("COMPOSE_FILE", "COMPOSE_PROFILES", "MDC_MODE_x")),
        "OTHER other",
    ]
    assert (project.root / ".env").exists()


@pytest.mark.proves("mdc docker compose by default")
def test_without_a_word_about_it_compose_is_that_of_docker(
    project: Project, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin/docker"
    docker.write_text('#!/bin/sh\nprintf "<%s>" docker "$@"\n')
    docker.chmod(0o755)
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    for others in ({}, {"DOCKER_COMPOSE": ""}):
        result = project.mdc("a", "up", "-d", PATH=path, **others)
        assert (result.code, result.out) == (0, "<docker><compose><--env-file><.env><up><-d>")


@pytest.mark.proves("mdc DOCKER_COMPOSE")
def test_docker_compose_is_no_shell_line(project: Project, tmp_path: Path) -> None:
    line = f"echo $HOME `id` > {tmp_path}/out ; true #"
    result = project.mdc("a", "up", DOCKER_COMPOSE=line)
    assert result.out == f"$HOME `id` > {tmp_path}/out ; true # --env-file .env up\n"


@pytest.mark.proves("mdc DOCKER_COMPOSE")
def test_a_compose_that_is_not_there_is_said_before_anything_is_written(project: Project) -> None:
    before = project.everything()
    result = project.mdc("a", "up", DOCKER_COMPOSE="no-such-compose x")
    assert result.code == 127
    assert result.err == (
        "DOCKER_COMPOSE: there is no program no-such-compose\nNothing was written.\n"
    )
    assert project.everything() == before


@pytest.mark.proves("mdc DOCKER_COMPOSE")
def test_a_compose_that_is_no_program_is_said(project: Project, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF nothing")
    broken.chmod(0o755)
    result = project.mdc("a", "up", DOCKER_COMPOSE=str(broken))
    assert (result.code, result.err.splitlines()[-1]) == (126, f"mdc: {broken}: Exec format error")


@pytest.mark.proves("mdc DOCKER_COMPOSE")
@pytest.mark.parametrize("name", ["/etc/passwd", "/"])
def test_a_compose_that_cannot_be_executed_is_said_before_anything_is_written(
    project: Project, name: str
) -> None:
    before = project.everything()
    result = project.mdc("a", "up", DOCKER_COMPOSE=name)
    assert (result.code, result.err) == (
        126,
        f"DOCKER_COMPOSE: {name} cannot be executed\nNothing was written.\n",
    )
    assert project.everything() == before


# ------------------------------------------------------------------------ secrets


@pytest.mark.parametrize("there", [False, True])
def test_the_env_file_is_no_more_open_than_each_of_its_sources(
    project: Project, *, there: bool
) -> None:
    if there:
        project.mdc("a")
    project.write({"a/env": "SECRET=1\n", "b/env": "OPEN=1\n"})
    (project.root / "modes/a/env").chmod(0o640)
    (project.root / "modes/b/env").chmod(0o604)
    assert project.mdc("a,b").code == 0
    assert (project.root / ".env").stat().st_mode & 0o777 == 0o600


# ------------------------------------------------------------------------ --dry-run


@pytest.mark.proves("mdc dry-run", "mdc empty base")
def test_a_dry_run_shows_everything_and_does_nothing(project: Project) -> None:
    project.write({"a/env": "A=1\n", "a/svc/files/etc/one": "", "b/svc/files/etc/one": ""})
    before = project.everything()
    result = project.mdc("--dry-run", "b", "exec", "a", "echo", "it's")
    assert (result.code, result.err) == (0, "")
    assert project.everything() == before
    assert result.out == (
        "Modes: a b\n"
        "\n"
        "Would write .mdc-compose.yaml:\n"
        "    # Written by mdc. The first of the compose files: relative paths in all of them start "
        "from its directory.\n"
        "    networks: {default: {}}\n"
        "\n"
        "Would write .env:\n"
        "    # Written by mdc for the modes a b; the next mdc replaces it.\n"
        "    \n"
        "    # modes/a/env\n"
        "    A=1\n"
        "    \n"
        "    # mdc\n"
        "    COMPOSE_FILE=.mdc-compose.yaml:modes/a/compose.yaml:modes/b/compose.yml\n"
        f"    COMPOSE_DIR={project.root}\n"
        "    COMPOSE_PROFILES=MODE_a,MODE_b\n"
        "    MDC_MODE_DIRS=modes/a,modes/b\n"
        "    MDC_MODE_a=enabled\n"
        "    MDC_MODE_b=enabled\n"
        "\n"
        "Would fill .files, and empty it first:\n"
        "    svc/etc/one  modes/b/svc/files/etc/one\n"
        "\n"
        "Would run:\n"
        "    docker compose --env-file .env exec a echo 'it'\"'\"'s'\n"
    )


@pytest.mark.proves("mdc dry-run", "mdc empty base")
def test_what_a_dry_run_shows_is_what_is_written(project: Project) -> None:
    shown = project.mdc("--dry-run", "c").out
    project.mdc("c")
    for name in (".env", ".mdc-compose.yaml"):
        lines = (project.root / name).read_text().splitlines()
        assert "\n".join(f"    {line}" for line in lines) in shown


# ------------------------------------------------------------------------ trees of files


@pytest.mark.proves("mdc files overlay", "mdc files modes and links")
def test_trees_are_laid_over_each_other(project: Project) -> None:
    project.write(
        {
            "a/svc1/files/etc/conf1": "a",
            "a/svc2/files/etc/conf2": "a",
            "a/svc2/other": "not below files",
            "a/.hidden/files/x": "not for *",
            "b/svc1/files/etc/conf1": "b",
            "b/svc1/files/.dot": "b",
        }
    )
    tool = project.root / "modes/b/svc2/files/bin/tool"
    tool.parent.mkdir(parents=True)
    tool.write_text("b")
    tool.chmod(0o751)
    (tool.parent / "link").symlink_to("/etc/passwd")
    (tool.parent / "empty dir").mkdir()
    assert project.mdc("b").code == 0
    assert project.files() == {
        "svc1/.dot": "b",
        "svc1/etc/conf1": "b",
        "svc2/bin/link": Path("/etc/passwd").read_text(),
        "svc2/bin/tool": "b",
        "svc2/etc/conf2": "a",
    }
    made = project.root / ".files/svc2/bin"
    assert (made / "tool").stat().st_mode & 0o7777 == 0o751
    assert (made / "link").readlink() == Path("/etc/passwd")
    assert (made / "empty dir").is_dir()
    names = sorted(path.name for path in (project.root / ".files").iterdir())
    assert names == [".mdc", "svc1", "svc2"]


@pytest.mark.proves("mdc files overlay", "mdc names with spaces")
def test_trees_keep_their_names_whatever_they_are(project: Project) -> None:
    names = ["two words", "$x", "'\"\\", "*", "-rf", "line\nfeed"]
    project.write({f"{mode}/my svc/files/{name}": mode for mode in "ab" for name in names})
    assert project.mdc("b", MDC_FILES_DIR="my files").code == 0
    assert project.files("my files") == {f"my svc/{name}": "b" for name in names}


@pytest.mark.proves("mdc files emptied first")
def test_the_directory_is_emptied_first_and_stays_the_same_one(project: Project) -> None:
    project.write({"a/svc/files/one": "1", "x/svc/files/two": "2", "y/deps": ""})
    assert project.mdc("a").code == 0
    before = (project.root / ".files").stat().st_ino
    assert project.mdc("x").code == 0
    assert project.files() == {"svc/two": "2"}
    assert project.mdc("y").code == 0
    assert project.files() == {}
    assert (project.root / ".files").stat().st_ino == before


@pytest.mark.proves("mdc files emptied first")
def test_emptying_follows_no_symbolic_link(project: Project, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    project.write({"a/svc/files/one": "1", "empty/deps": ""})
    (project.root / "modes/a/svc/files/out").symlink_to(outside)
    assert project.mdc("a").code == 0
    (project.root / ".files/more").symlink_to(outside)
    assert (project.root / ".files/svc/out/precious").read_text() == "kept"
    assert project.mdc("a").code == 0
    assert project.mdc("empty").code == 0
    assert (outside / "precious").read_text() == "kept"
    assert project.files() == {}


@pytest.mark.proves("mdc files overlay")
def test_nothing_is_written_through_a_link_of_another_mode(
    project: Project, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("kept")
    project.write({"a/svc/files/x": "", "b/svc/files/etc/conf": "b", "b/svc/files/f": "b"})
    (project.root / "modes/a/svc/files/etc").symlink_to(outside)
    (project.root / "modes/a/svc/files/f").symlink_to(outside / "file")
    assert project.refused("b") == (
        "modes/b/svc/files/etc: is a directory, and modes/a/svc/files/etc is a symbolic link: "
        "rename one of them"
    )
    (project.root / "modes/a/svc/files/etc").unlink()
    assert project.mdc("b").code == 0
    assert project.files() == {"svc/etc/conf": "b", "svc/f": "b", "svc/x": ""}
    assert (outside / "file").read_text() == "kept"


@pytest.mark.proves("mdc files overlay")
def test_a_file_is_not_laid_over_a_directory(project: Project) -> None:
    project.write({"a/svc/files/x/y": "", "b/svc/files/x": ""})
    os.mkfifo(project.root / "modes/b/svc/files/pipe")
    assert project.refused("b").splitlines() == [
        (
            "modes/b/svc/files/pipe: "
            "is neither a file nor a directory nor a symbolic link: take it away"
        ),
        (
            "modes/b/svc/files/x: "
            "is a file, and modes/a/svc/files/x is a directory: rename one of them"
        ),
    ]


@pytest.mark.parametrize("directory", [".", "/", "..", "sub/..", "./", "//", "../work"])
@pytest.mark.proves("mdc refuses . and /")
def test_what_contains_the_working_directory_is_not_emptied(
    project: Project, directory: str
) -> None:
    (project.root / "sub").mkdir()
    assert "contains the working directory" in project.refused(
        "--force", "a", MDC_FILES_DIR=directory
    )


@pytest.mark.proves("mdc refuses . and /")
def test_what_else_is_not_emptied(project: Project, tmp_path: Path) -> None:
    (project.root / "real").mkdir()
    (project.root / "link").symlink_to("real")
    (project.root / "up").symlink_to("..")
    (project.root / "file").write_text("")
    for directory, said in (
        ("link", "link: is a symbolic link; name the directory itself"),
        ("up/work", "up/work: contains the working directory"),
        ("modes", "modes: has files in common with modes"),
        ("modes/a", "modes/a: has files in common with modes"),
        ("file", "file: is not a directory"),
    ):
        words = f"{said}, and MDC_FILES_DIR would be emptied: choose another"
        assert project.refused("--force", "a", MDC_FILES_DIR=directory) == words
    other = tmp_path / "elsewhere"
    other.mkdir()
    said = project.refused("--force", "a", MDC_FILES_DIR=str(other), ENV_FILE=f"{other}/.env")
    assert said.startswith(f"{other}: contains the env file, and")


# ------------------------------------------------------------------------ what is not mdc's


@pytest.mark.proves("mdc foreign env file", "mdc foreign files directory", "mdc force")
def test_what_mdc_did_not_write_is_replaced_with_force_only(project: Project) -> None:
    project.write({"a/svc/files/x": "x"})
    project.write({".env": "MINE=1\n", ".mdc-compose.yaml": "", ".files/mine": ""}, below="")
    assert project.refused("a").splitlines() == [
        (
            ".mdc-compose.yaml: mdc did not write this file; move it away, or --force puts mdc's "
            "in its place"
        ),
        ".env: mdc did not write this file; move it away, or --force puts mdc's in its place",
        (
            ".files: mdc did not fill this directory, and would empty it; move it away, or --force "
            "puts mdc's in its place"
        ),
    ]
    project.refused("--dry-run", "a")
    assert project.mdc("--force", "a").code == 0
    assert project.files() == {"svc/x": "x"}
    assert "MINE" not in project.variables()
    assert project.mdc("b").code == 0, "now all is mdc's"


@pytest.mark.proves("mdc ENV_FILE")
def test_a_link_to_the_env_file_and_its_permissions_stay(project: Project, tmp_path: Path) -> None:
    real = tmp_path / "shared.env"
    (project.root / ".env").symlink_to(real)
    assert project.mdc("a").code == 0
    real.chmod(0o640)
    assert project.mdc("b").code == 0
    assert (project.root / ".env").is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert project.variables()["MDC_MODE_b"] == "enabled"


# ------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("words", "deps", "said"),
    [
        ("d", "", "MODES:1:1: no mode d: modes has no directory of that name; there are a, b, c"),
        ("a, bb", "", ("MODES:1:4: no mode bb: modes has no directory of that name; "
                      "did you mean b?")),
        ("c", "\n# x\n  zz", ("modes/a/deps:3:3: no mode zz: modes has no directory of that name; "
                             "there are a, b, c")),
        ("c", "+zz", ("modes/a/deps:1:1: no mode zz: modes has no directory of that name; "
                     "there are a, b, c")),
        ("c", "b|zz", ("modes/a/deps:1:1: no mode zz: modes has no directory of that name; "
                      "there are a, b, c")),
    ],
)  # fmt: skip
@pytest.mark.proves("mdc missing mode")
def test_a_mode_that_is_not_there_is_told_with_its_place(
    project: Project, words: str, deps: str, said: str
) -> None:
    project.write({"a/deps": deps})
    assert project.refused(words) == said


@pytest.mark.parametrize(
    ("deps", "said"),
    [
        ("c", ("modes/a/deps:1:1: a cycle: a needs c (modes/a/deps:1:1), c needs b "
               "(modes/c/deps:1:1), b needs a (modes/b/deps:1:1); "
               "take one of these entries away")),
        ("a", ("modes/a/deps:1:1: a cycle: a needs a (modes/a/deps:1:1); "
               "take one of these entries away")),
        ("+b", ("modes/a/deps:1:1: a cycle: a comes after b (modes/a/deps:1:1), b needs a "
                "(modes/b/deps:1:1); take one of these entries away")),
    ],
)  # fmt: skip
@pytest.mark.proves("mdc cycle")
def test_a_cycle_is_told_with_the_entries_that_make_it(
    project: Project, deps: str, said: str
) -> None:
    project.write({"a/deps": deps})
    assert project.refused("c") == said


@pytest.mark.parametrize(
    ("words", "deps", "said"),
    [
        ("c", "../a", ("modes/a/deps:1:1: '../a' is not the name of a mode: letters, digits, '_', "
                      "'.' and '-', the first a letter, a digit or '_'")),
        ("+a", "", "MODES:1:1: '+a' asks for nothing; it is for deps files"),
        (" , ", "", "MODES: names no mode"),
        ("../modes/a", "", ("MODES:1:1: '../modes/a' is not the name of a mode: letters, digits, "
                           "'_', '.' and '-', the first a letter, a digit or '_'")),
    ],
)  # fmt: skip
@pytest.mark.proves("mdc wrong entry")
def test_a_wrong_entry_is_told_with_its_place(
    project: Project, words: str, deps: str, said: str
) -> None:
    project.write({"a/deps": deps})
    assert project.refused(words) == said


@pytest.mark.proves("mdc missing mode")
def test_everything_that_is_wrong_is_told_at_once(project: Project) -> None:
    project.write({"a/deps": "yy\n%", "b/deps": "a zz"})
    assert [line.partition(": ")[0] for line in project.refused("c, xx").splitlines()] == [
        "MODES:1:4",
        "modes/a/deps:2:1",
        "modes/b/deps:1:3",
    ]


@pytest.mark.proves("mdc MODES_DIR", "mdc ENV_FILE")
def test_directories_that_are_not_there(project: Project) -> None:
    assert project.refused("a", MODES_DIR="none") == (
        "none: there is no such directory; MODES_DIR says where the modes are"
    )
    assert project.refused("a", ENV_FILE="none/.env") == (
        "none/.env: its directory is not there; ENV_FILE says where to write"
    )
    (project.root / ".env").mkdir()
    assert project.refused("--force", "a") == (".env: is not a file; ENV_FILE says where to write")


@pytest.mark.proves("mdc DOCKER_COMPOSE", "mdc MODES_DIR")
def test_settings_that_cannot_be_understood(project: Project) -> None:
    assert project.refused("a", DOCKER_COMPOSE="docker 'compose") == (
        'DOCKER_COMPOSE: "docker \'compose": No closing quotation'
    )
    (project.root / "modes").rename(project.root / "a:b,c")
    assert project.refused("a", MODES_DIR="a:b,c") == (
        "a:b,c/a/compose.yaml: a path with ':' cannot stand in a list of paths"
    )
    (project.root / "a:b,c").rename(project.root / "it's")
    assert "a path with a quote" in project.refused("a", MODES_DIR="it's")


def test_files_that_cannot_be_understood(project: Project) -> None:
    project.write({"a/env": "A='1'\nB=\"2\n", "b/env": "C='it\\'s'\nD='\nE='\n  export F='x"})
    assert project.refused("b").splitlines() == [
        'modes/a/env:2:3: the quote " is not closed',
        "modes/b/env:4:12: the quote ' is not closed",
    ]
    (project.root / "modes/a/deps").write_bytes(b"a\xff")
    assert project.refused("b") == "modes/a/deps: is not UTF-8, from byte 1 on"
    (project.root / "modes/a/deps").unlink()
    (project.root / "modes/a/deps").mkdir()
    assert project.refused("b") == "modes/a/deps: Is a directory"


# Root reads everything; without these two of its rights it is like anybody else.
CAPABILITIES = "-dac_override,-dac_read_search"
PLAIN = ("setpriv", f"--bounding-set={CAPABILITIES}", f"--inh-caps={CAPABILITIES}")
UNDER = PLAIN if os.geteuid() == 0 else ()


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("modes", "modes"),
        ("modes/a", "modes/a/deps"),  # the first thing that is looked for in it
        ("modes/a/deps", "modes/a/deps"),
        ("modes/a/env", "modes/a/env"),
        ("modes/a/svc", "modes/a/svc/files"),
        ("modes/a/svc/files", "modes/a/svc/files"),
        ("modes/a/svc/files/deep", "modes/a/svc/files/deep"),
        ("modes/a/svc/files/file", "modes/a/svc/files/file"),
    ],
)
@pytest.mark.proves("mdc unreadable directory")
def test_what_cannot_be_read_is_named_and_changes_nothing(
    project: Project, path: str, named: str
) -> None:
    tree = {"a/svc/files/deep/x": "", "a/svc/files/file": "new"}
    project.write({**tree, "a/deps": "", "a/env": "", "x/svc/files/file": "old"})
    assert project.mdc("x").code == 0
    before = project.everything()
    place = project.root / path
    mode = place.stat().st_mode
    place.chmod(0)
    try:
        result = project.mdc("a", under=UNDER)
    finally:
        place.chmod(mode)
    assert result.code == 1
    assert result.err == f"{named}: Permission denied\nNothing was written.\n"
    assert project.everything() == before


@pytest.mark.parametrize(
    "locked",
    [
        ".",  # the files are exchanged by then, and come back
        ".files",
        ".files/svc",  # a directory that cannot be moved, after one that was
    ],
)
@pytest.mark.proves("mdc all or nothing")
def test_what_cannot_be_written_leaves_all_as_it_was(project: Project, locked: str) -> None:
    project.write({"a/svc/files/file": "new", "x/svc/files/file": "old", "x/and/files/more": "old"})
    assert project.mdc("x").code == 0
    (project.root / ".mdc-compose.yaml").unlink()
    before = project.everything()
    place = project.root / locked
    mode = place.stat().st_mode
    place.chmod(0o500)
    try:
        result = project.mdc("a", under=UNDER)
    finally:
        place.chmod(mode)
    assert result.code == 1, result
    assert result.err.endswith(": Permission denied\nNothing was written.\n")
    assert project.everything() == before


@pytest.mark.proves("mdc help")
def test_help_fits_a_screen_and_teaches(project: Project) -> None:
    result = project.mdc("--help")
    assert result.code == 0
    lines = result.out.splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 100
    for word in ("MODES_DIR", "ENV_FILE", "MDC_FILES_DIR", "DOCKER_COMPOSE", "exit codes:"):
        assert word in result.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "mdc: the following arguments are required: MODES"),
        (("--frobnicate", "a"), "mdc: unrecognized arguments: --frobnicate"),
    ],
)
@pytest.mark.proves("mdc wrong words")
def test_wrong_words(project: Project, words: tuple[str, ...], said: str) -> None:
    result = project.mdc(*words)
    assert (result.code, result.err) == (1, f"{said}\nTry 'mdc --help'.\n")
