"""How User Mode Linux is started: Debian's package, a kernel that is a process of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

KERNEL = "linux.uml"
MODULES = Path("/usr/lib/uml/modules")
REGISTERS = Path(__file__).with_name("registers.c")
MEMORY = 2  # GiB; only what is used is taken from the machine


def missing() -> str:
    """Return why there can be none here, empty when there can."""
    if os.geteuid() != 0:
        return "User Mode Linux on the machine's own file system needs root"
    if shutil.which("gcc") is None:
        return "no gcc: install the Debian packages gcc and libc6-dev"
    if shutil.which(KERNEL) is None or not MODULES.is_dir():
        return f"no {KERNEL} with its modules: install the Debian package user-mode-linux"
    return ""


def start(init: Path, directory: Path, cache: Path, scratch: Path) -> tuple[list[str], dict]:
    """Return the words that start it, and the environment that it needs; see guest-init."""
    words = [
        KERNEL, f"mem={MEMORY}G", "rootfstype=hostfs", "ro", "quiet", "loglevel=0", "con=null",
        "ssl=null", "con0=fd:0,fd:1", f"init={init}", f"RELINK_RUN={directory}",
        f"RELINK_MODULES={MODULES}", "RELINK_SHARE=hostfs",
    ]  # fmt: skip
    return words, {
        "HOME": str(scratch),  # its mconsole socket
        "TMPDIR": _memory_directory(),
        "LD_PRELOAD": str(_registers(cache)),
    }


def _registers(cache: Path) -> Path:
    """Return the library that lets it run on a processor with more registers than it knows."""
    library = cache / "registers.so"
    if not library.exists() or library.stat().st_mtime < REGISTERS.stat().st_mtime:
        new = library.with_suffix(f".{os.getpid()}")  # others may start at the same time
        subprocess.run(
            ["gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", str(new), str(REGISTERS)], check=True
        )
        new.replace(library)
    return library


def _memory_directory() -> str:
    """Return where the file that is its memory goes: on tmpfs where that is large enough.

    It is mapped executable; and containers' /dev/shm is often 64 MiB, or mounted noexec.
    """
    shm = "/dev/shm"
    told = os.statvfs(shm)
    enough = told.f_bavail * told.f_frsize >= MEMORY << 30
    return shm if enough and not told.f_flag & os.ST_NOEXEC else tempfile.gettempdir()
