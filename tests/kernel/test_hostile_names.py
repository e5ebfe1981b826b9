"""Namespaces, and commands' output, as somebody hostile would have them: told, and never obeyed."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.lab import Lab
from tests.lab.waiting import until

pytestmark = pytest.mark.kernel

CLEAR = "\x1b[2J"
# As file names: everything but '/' and NUL.
NAMES = ("$(touch PWNED)", "; touch PWNED", "a\nb", CLEAR, "%s%n", "{0.__class__}", "\u202egnp.exe",
         "-x", "--help", " ", "x" * 200, "x_9999999999", os.fsdecode(b"\xff\xfe"), "é")  # fmt: skip
DECLARED = ("$(touch PWNED)", "; touch PWNED", "%s%n", "{0.__class__}", "-x", "--help", "x" * 200)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "NO_COLOR": "1"}


@pytest.fixture
def hostile(lab: Lab) -> Lab:
    """Have namespaces of such names, and each of the declared ones declared, with a command."""
    for name in NAMES:
        # ip(8) takes no name that begins with a dash for a name, so that it is renamed.
        lab.add("plain")
        Path(f"/run/netns/{name}").touch()
        subprocess.run(["mount", "--bind", "/run/netns/plain", f"/run/netns/{name}"], check=True)
        subprocess.run(["umount", "/run/netns/plain"], check=True)
        Path("/run/netns/plain").unlink()
        lab.names.remove("plain")
        lab.names.append(name)
    links = [
        {"container": name.replace("$", "$$"), "bridge": "s1", "ip": f"10.0.0.{number}/24"}
        for number, name in enumerate(DECLARED, 1)
    ]
    code = f"print({f'{CLEAR}said'!r})"
    command = {"container": "-x", "command": [sys.executable, "-c", code]}
    lab.config(json.dumps({"links": links, "commands": [command]}))
    return lab


def _run(lab: Lab, at: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reconciler.cli", "--runtime=netns", "--instance", lab.instance,
         "--network-file", str(lab.directory / "net.yaml"), *words],
        capture_output=True, text=True, check=False, timeout=60, cwd=at, env=_environment(),
    )  # fmt: skip


def test_whatever_namespaces_are_called_the_declared_ones_are_connected(
    hostile: Lab, tmp_path: Path
) -> None:
    at = tmp_path / "at"
    at.mkdir()
    for words in (("--once",), ("--dry-run",), ("status",), ("--destroy",)):
        done = _run(hostile, at, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        told = (done.stdout + done.stderr).replace("\n", "")
        assert told.isprintable(), f"{words}: a terminal would obey {told!r}"
    assert list(at.iterdir()) == [], "nothing was made where it ran"


def test_a_log_on_a_terminal_moves_no_cursor(hostile: Lab, tmp_path: Path) -> None:
    """What a command in a container prints is somebody else's."""
    ours, theirs = pty.openpty()
    sidecar = subprocess.Popen(
        [sys.executable, "-m", "reconciler.cli", "--runtime=netns", "--instance", hostile.instance,
         "--network-file", str(hostile.directory / "net.yaml")],
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, cwd=tmp_path, env=_environment(),
    )  # fmt: skip
    os.close(theirs)
    os.set_blocking(ours, False)
    seen = bytearray()

    def look() -> bool:
        with contextlib.suppress(OSError):  # nothing to read yet, or no more
            seen.extend(os.read(ours, 65536))
        return b"said" in seen and b"command_ended" in seen

    try:
        until(look, "what the command said", explain=lambda: seen.decode(errors="replace"))
    finally:
        sidecar.terminate()
        sidecar.wait(20)
        os.close(ours)
    assert rb"\x1b[2Jsaid" in seen
    assert b"\x1b" not in seen
