"""A kernel with every feature, booted on the machine's own root file system for one command.

It knows how to have one command run in there from this checkout, and to end it; neither how each
kernel is started (uml.py, qemu.py) nor what is tested. Inside, everything can be written and is
gone afterwards, except what is below .cache.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.lab import qemu, uml

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / ".cache"
INIT = CHECKOUT / "tests/lab/guest-init"
KERNELS = {"uml": uml, "qemu": qemu}
# What can run, and its first words.
MODULES = {"pytest": ("-p", "no:cacheprovider"), "tests.faults": ()}
LIMIT = 1800  # seconds
PASSED_ON = ("CI", "COLUMNS", "NO_COLOR", "RELINK_FAULTS")  # of the environment


def run(kernel: str, command: Sequence[str], *, without: str = "", limit: float = LIMIT) -> int:
    """Boot, run one command in the checkout, its output on our own, and return its exit code.

    Args:
        kernel: which of KERNELS.
        command: what is run.
        without: a module that the kernel is not to have.
        limit: seconds.

    Raises:
        RuntimeError: no such kernel can be had, or it ended without an exit code of the command.
        TimeoutError: it took longer than `limit` seconds and was ended.
    """
    if why := KERNELS[kernel].missing():
        raise RuntimeError(why)
    results = CACHE / "guest"
    results.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=results) as directory,
        tempfile.TemporaryDirectory(prefix="relink-guest-") as scratch,
    ):
        (Path(directory) / "command").write_text(_script(command, without))
        _boot(kernel, Path(directory), Path(scratch), limit)
        code = Path(directory) / "code"
        if not code.exists():
            raise RuntimeError(f"it ended without running {shlex.join(command)} to its end")
        return int(code.read_text())


def _script(command: Sequence[str], without: str) -> str:
    told = [f"{name}={os.environ[name]}" for name in PASSED_ON if name in os.environ]
    if not sys.stdout.isatty():  # the console is a terminal in there, whatever it is here
        told += ["PY_COLORS=0", "TERM=dumb"]
    remove = f"find /lib/modules/ -name {shlex.quote(without)}.ko -delete\n" if without else ""
    return f"{remove}exec env {shlex.join([*told, *command])}\n"


def _boot(kernel: str, directory: Path, scratch: Path, limit: float) -> None:
    words, environment = KERNELS[kernel].start(INIT, directory, CACHE, scratch)
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], **environment},
        start_new_session=True,  # so that all of its host processes can be ended by its own id
    )
    # A session of its own is as patient as ours is only if it is told so: sched(7), autogroup.
    with contextlib.suppress(OSError):
        patience = os.getpriority(os.PRIO_PROCESS, 0)
        Path(f"/proc/{process.pid}/autogroup").write_text(str(patience))
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"it did not end within {limit} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def main(words: Sequence[str]) -> int:
    """Run `pytest ARGUMENTS…` or `tests.faults ARGUMENTS…` on a kernel, as scripts/guest does."""
    kernel, *rest = words or [""]
    without = rest[1] if rest[:1] == ["--without"] and len(rest) > 1 else ""
    rest = rest[2:] if without else rest
    if kernel not in KERNELS or not rest or rest[0] not in MODULES:
        kernels, modules = "|".join(KERNELS), "|".join(MODULES)
        usage = f"scripts/guest {kernels} [--without MODULE] {modules} ARGUMENTS…"
        print(f"usage: {usage}", file=sys.stderr)
        return 2
    python = str(CHECKOUT / ".venv/bin/python")
    command = [python, "-m", rest[0], *MODULES[rest[0]], *rest[1:]]
    if rest[0] == "pytest" and not sys.stdout.isatty():  # no counter of what is collected
        command.append("--quiet")
    # An orderly end, so that the kernel ends with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return run(kernel, command, without=without)
    except (RuntimeError, TimeoutError) as error:
        print(f"{kernel}: {error}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
