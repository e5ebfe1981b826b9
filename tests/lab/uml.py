"""User Mode Linux: a kernel with every feature, on the machine's own root file system.

It knows how to boot one, run one command from this checkout in it, and end it; not what is tested.
Inside, everything can be written and is gone afterwards, except what is below .cache.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
KERNEL = "linux.uml"
MODULES = Path("/usr/lib/uml/modules")
INIT = CHECKOUT / "tests/lab/uml-init"
MEMORY = 2  # GiB; only what is used is taken from the machine
LIMIT = 1800  # seconds
PASSED_ON = ("CI", "COLUMNS", "NO_COLOR")  # of the environment


def missing() -> str:
    """Return why no User Mode Linux can be had here, empty when one can."""
    if os.geteuid() != 0:
        return "User Mode Linux on the machine's own file system needs root"
    if shutil.which(KERNEL) is None or not MODULES.is_dir():
        return f"no {KERNEL} with its modules: install the Debian package user-mode-linux"
    return ""


def run(command: Sequence[str], *, limit: float = LIMIT) -> int:
    """Boot, run one command in the checkout, its output on our own, and return its exit code.

    Raises:
        RuntimeError: no kernel, or it ended without an exit code of the command.
        TimeoutError: it took longer than `limit` seconds and was ended.
    """
    if why := missing():
        raise RuntimeError(why)
    results = CHECKOUT / ".cache" / "uml"
    results.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=results) as directory,
        tempfile.TemporaryDirectory(prefix="relink-uml-") as home,  # of its mconsole socket
    ):
        (Path(directory) / "command").write_text(_script(command))
        _boot(directory, home, limit)
        code = Path(directory) / "code"
        if not code.exists():
            raise RuntimeError(f"{KERNEL} ended without running {shlex.join(command)} to its end")
        return int(code.read_text())


def _script(command: Sequence[str]) -> str:
    told = [f"{name}={os.environ[name]}" for name in PASSED_ON if name in os.environ]
    if not sys.stdout.isatty():  # the console is a terminal in there, whatever it is here
        told += ["PY_COLORS=0", "TERM=dumb"]
    return f"exec env {shlex.join([*told, *command])}\n"


def _boot(directory: str, home: str, limit: float) -> None:
    kernel = subprocess.Popen(
        [
            KERNEL, f"mem={MEMORY}G", "rootfstype=hostfs", "ro", "quiet", "loglevel=0",
            "con=null", "ssl=null", "con0=fd:0,fd:1", f"init={INIT}", f"RELINK_RUN={directory}",
        ],
        stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "HOME": home, "TMPDIR": _memory_directory()},
        start_new_session=True,  # so that all of its host processes can be ended by its own id
    )  # fmt: skip
    try:
        kernel.wait(limit)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{KERNEL} did not end within {limit} s") from None
    finally:
        if kernel.poll() is None:
            os.killpg(kernel.pid, signal.SIGKILL)
            kernel.wait()


def _memory_directory() -> str:
    """Return where the file that is its memory goes: on tmpfs where that is large enough.

    It is mapped executable; and containers' /dev/shm is often 64 MiB, or mounted noexec.
    """
    shm = "/dev/shm"
    told = os.statvfs(shm)
    enough = told.f_bavail * told.f_frsize >= MEMORY << 30
    return shm if enough and not told.f_flag & os.ST_NOEXEC else tempfile.gettempdir()


def main(words: Sequence[str]) -> int:
    """Run `pytest ARGUMENTS…` under User Mode Linux, as scripts/uml does."""
    if not words or words[0] != "pytest":
        print("usage: scripts/uml pytest ARGUMENTS…", file=sys.stderr)
        return 2
    python = str(CHECKOUT / ".venv/bin/python")
    pytest = [python, "-m", "pytest", "-p", "no:cacheprovider", *words[1:]]
    # An orderly end, so that the kernel ends with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return run(pytest)
    except (RuntimeError, TimeoutError) as error:
        print(f"uml: {error}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
