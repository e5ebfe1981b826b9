"""The images of the examples and of the Dockerfile, made of Debian packages; no registry is asked.

An image of the same name that was not made here is somebody's own and is left as it is. One that
was made here carries the hash of its recipe, and is made again when the recipe changes.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.lab.engine import HOME, docker, environment

SOURCE = Path(__file__).resolve().parents[2]
CONTEXT = (
    ".dockerignore",
    "Dockerfile",
    "LICENSE",
    "README.md",
    "constraints.txt",
    "pyproject.toml",
)
PACKAGES = ("actuators", "model", "observers", "reconciler", "tools")
LABEL = "relink.lab.recipe"

ALPINE = "alpine"
PYTHONS = ("python:3-alpine", "python:latest")
BASE = "python:3.11-slim-bookworm"
DEBIAN = "debian:bookworm-slim"
RELINK = "relink"

# What the Dockerfile installs is in the base already: its `apt-get install` needs no mirror.
_IN_BASE = ("python3", "python3-venv", "ethtool", "iproute2", "nftables", "tcpdump")
_IN_DEBIAN = ("openvswitch-switch", "musl-tools")
# Packages whose files are Python and what it is linked to.
_OF_PYTHON = re.compile(
    r"(lib)?python3(\.11)?(-minimal|-stdlib)?|media-types|zlib1g|readline-common"
    r"|lib(bz2-1\.0|c6|com-err2|crypt1|db5\.3|expat1|ffi8|gssapi-krb5-2|k5crypto3|keyutils1|krb5-3"
    r"|krb5support0|lzma5|ncursesw6|nsl2|readline8|sqlite3-0|ssl3|tinfo6|tirpc3|uuid1)"
)
_UNUSED = (
    "var/cache/apt",
    "var/lib/apt/lists",
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
)

# Debian's busybox shell prefers its own applets over PATH, hence dash; its nc knows no -z.
_NC = """\
#!/bin/sh
# nc -z [-w SECONDS] HOST PORT: does the port answer?
case " $* " in *" -z "*) ;; *) exec busybox nc "$@" ;; esac
wait=5
while [ $# -gt 2 ]; do
    case $1 in -w) wait=$2; shift ;; esac
    shift
done
exec busybox nc -w "$wait" "$1" "$2" -e true
"""
_USERS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
}


def make_all() -> None:
    """Make or remake what is missing or made by an older recipe."""
    recipe = _hash([Path(__file__), SOURCE / "constraints.txt", SOURCE / "pyproject.toml"])
    _imported([ALPINE], recipe, _alpine)
    _imported(PYTHONS, recipe, _python)
    _imported([BASE], recipe, _slim)
    _imported([DEBIAN], recipe, _debian)
    make_relink()


def make_relink(tag: str = RELINK) -> None:
    """Build the image from the Dockerfile, with no network, unless it is of this very source."""
    files = [SOURCE / name for name in CONTEXT]
    for package in PACKAGES:
        under = (SOURCE / package).rglob("*")
        files += sorted(path for path in under if path.is_file() and path.suffix != ".pyc")
    recipe = f"{_hash(files)}-{_recipe_of(BASE)}-{_recipe_of(DEBIAN)}"
    if _recipe_of(tag) != recipe:
        build = ["build", "--quiet", "--force-rm", "--network=none", f"--label={LABEL}={recipe}"]
        # The first stage has a name, so that it is not swept away: the next build starts from it.
        docker(*build, "--target=build", f"--tag={tag}-build", str(SOURCE), timeout=300)
        docker(*build, f"--tag={tag}", str(SOURCE), timeout=300)
        docker("image", "prune", "--force", f"--filter=label={LABEL}")


def _imported(tags: Iterable[str], recipe: str, make: Callable[[Path], None]) -> None:
    """Import one tree under each of the tags that lacks it."""
    wanted = [tag for tag in tags if _recipe_of(tag) not in (recipe, "foreign")]
    if not wanted:
        return
    with tempfile.TemporaryDirectory(prefix="relink-image-", dir=HOME) as name:
        tree = Path(name)
        tree.chmod(0o755)
        make(tree)
        change = f"--change=LABEL {LABEL}={recipe}"
        packed = subprocess.Popen(
            ["tar", "--numeric-owner", "--one-file-system", "-C", name, "-c", "."],
            stdout=subprocess.PIPE,
        )
        subprocess.run(
            ["docker", "import", change, '--change=CMD ["/bin/sh"]', "-", wanted[0]],
            env=environment(),
            stdin=packed.stdout,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        packed.communicate()
    for tag in wanted[1:]:
        docker("tag", wanted[0], tag)


def _recipe_of(tag: str) -> str:
    """Return the recipe an image was made by, empty without an image, `foreign` if not ours."""
    template = f'{{{{index .Config.Labels "{LABEL}"}}}}'
    try:
        return docker("image", "inspect", "--format", template, tag) or "foreign"
    except RuntimeError:
        return ""


def _alpine(tree: Path) -> None:
    """Make a tree of busybox, dash, and the C library that dash needs."""
    for name in ("bin", "dev", "etc", "proc", "root", "run", "sys", "usr/bin", "var"):
        (tree / name).mkdir(parents=True)
    (tree / "tmp").mkdir(mode=0o777)
    (tree / "tmp").chmod(0o1777)
    for name, text in _USERS.items():
        (tree / name).write_text(text)
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    for applet in output("/bin/busybox", "--list").split():
        if applet not in ("busybox", "nc", "sh"):
            (tree / "bin" / applet).symlink_to("busybox")
    (tree / "bin/nc").write_text(_NC)
    (tree / "bin/nc").chmod(0o755)
    libraries = re.findall(r"(/\S+) \(0x", output("ldd", "/bin/dash"))
    for file in ["/bin/dash", *libraries]:
        inside = tree / file.lstrip("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, inside)
    (tree / "bin/sh").symlink_to("dash")


def _python(tree: Path) -> None:
    """Make the tree of alpine with Debian's Python in it."""
    _alpine(tree)
    root = _bootstrapped()
    names = {
        line.removeprefix("/")
        for listing in (root / "var/lib/dpkg/info").glob("*.list")
        if _OF_PYTHON.fullmatch(listing.stem.partition(":")[0])
        for line in listing.read_text().splitlines()
        if not line.startswith(("/usr/share/doc", "/usr/share/man"))
    }
    for name in sorted(names):
        source, inside = root / name, tree / name
        if not name or source.is_dir() or not os.path.lexists(source):
            continue
        inside.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(inside):
            shutil.copy2(source, inside, follow_symlinks=False)
    _name_python(tree)


def _slim(tree: Path) -> None:
    """Make the tree of a Debian with Python and a pip that knows only the wheels beside it."""
    subprocess.run(["cp", "-a", f"{_bootstrapped()}/.", tree], check=True)
    for name in _UNUSED:
        shutil.rmtree(tree / name, ignore_errors=True)
    (tree / "etc/apt/sources.list").write_text("")
    wheels = tree / "usr/share/wheels"
    _download_wheels(wheels)
    (tree / "etc/pip.conf").write_text(
        f"[global]\nno-index = true\nfind-links = /{wheels.relative_to(tree)}\n"
    )
    _name_python(tree)


def _debian(tree: Path) -> None:
    """Make the tree of a Debian where what the Dockerfile installs is unpacked, not set up yet."""
    subprocess.run(["cp", "-a", f"{_bootstrapped()}/.", tree], check=True)
    with tempfile.TemporaryDirectory(prefix="relink-packages-", dir=HOME) as name:
        packages = Path(name)
        (packages / "partial").mkdir()
        # This machine's apt, asked what that Debian lacks; nothing of this machine is changed.
        instead = {
            "Dir::State::status": tree / "var/lib/dpkg/status",
            "Dir::Cache::archives": packages,
            "APT::Sandbox::User": "root",
            "Debug::NoLocking": "true",
        }
        options = [f"--option={key}={value}" for key, value in instead.items()]
        by_apt(
            *("apt-get", "--yes", "--quiet", "--no-install-recommends", "--download-only"),
            *(*options, "install", *_IN_DEBIAN),
        )
        output("dpkg", f"--root={tree}", "--unpack", *map(str, sorted(packages.glob("*.deb"))))
    for each in _UNUSED:
        shutil.rmtree(tree / each, ignore_errors=True)
    (tree / "etc/apt/sources.list").write_text("")
    # As in Debian's own image: what is installed in there is not started.
    no_services = tree / "usr/sbin/policy-rc.d"
    no_services.write_text("#!/bin/sh\nexit 101\n")
    no_services.chmod(0o755)


def _name_python(tree: Path) -> None:
    """Give Python the names that it has in Python's own images."""
    names = tree / "usr/local/bin"
    names.mkdir(parents=True, exist_ok=True)
    for name in ("python", "python3"):
        (names / name).symlink_to("/usr/bin/python3.11")


def _bootstrapped() -> Path:
    """Return a Debian root directory, made once from the mirror that this machine uses."""
    archive = HOME / f"debian-{_hash_text(' '.join(_IN_BASE))}"
    if not archive.exists():
        HOME.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="debian-", dir=HOME) as name:
            root = Path(name) / "root"
            include = f"--include={','.join(_IN_BASE)}"
            log = HOME / "debootstrap.log"
            with log.open("wb") as out:
                command = [
                    "debootstrap",
                    "--variant=minbase",
                    include,
                    "bookworm",
                    str(root),
                    _mirror(),
                ]
                done = subprocess.run(command, stdout=out, stderr=out, check=False)
            if done.returncode:
                raise RuntimeError(f"debootstrap failed:\n{log.read_text()[-2000:]}")
            root.rename(archive)
    return archive


def _mirror() -> str:
    """Return the Debian mirror that apt uses here."""
    for line in output("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)").splitlines():
        site, _, release = line.partition(" ")
        if release == "bookworm":
            return site
    raise RuntimeError("apt knows no mirror of Debian bookworm (/etc/apt/sources.list)")


def _download_wheels(into: Path) -> None:
    """Collect the wheels of the constrained dependencies, as this machine's pip finds them."""
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["build-system"]["requires"]
    constraints = ["--constraint", str(SOURCE / "constraints.txt")]
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(into)]
    output(*command, *constraints, *wanted)


def output(*command: str, cwd: Path | None = None) -> str:
    """Run a program and return what it printed.

    Raises:
        RuntimeError: it failed; with its standard error.
    """
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)
    if done.returncode:
        words = f"{done.stderr}{done.stdout}".strip()
        raise RuntimeError(f"{shlex.join(command)}: exit {done.returncode}\n{words}")
    return done.stdout


def by_apt(*command: str, cwd: Path | None = None) -> str:
    """Run a program of apt; where it fails, once more with lists of packages that are fresh.

    Raises:
        RuntimeError: it failed with fresh lists too, or there are none to be had; with its words.
    """
    try:
        return output(*command, cwd=cwd)
    except RuntimeError:
        output("apt-get", "update", "--error-on=any")
        return output(*command, cwd=cwd)


def _hash(files: Iterable[Path]) -> str:
    """Return the hash of the files' names and contents."""
    parts = [f"{file.relative_to(SOURCE)} {_hash_text(file.read_bytes())}" for file in files]
    return _hash_text("\n".join(parts))


def _hash_text(text: str | bytes) -> str:
    raw = text.encode() if isinstance(text, str) else text
    return hashlib.sha256(raw).hexdigest()[:16]
