"""Starting and stopping Open vSwitch's daemons where nobody else runs them.

They are started at the standard socket, so that ovs-vsctl and the like find them, on a database
of their own, so that what an administrator has configured stays as it is. The database says who
started them (model.ovs.STARTED): a crash of Relink keeps them, and the next one knows.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.ovs import DATABASE, RUN, SBIN, SCHEMA_FILE, STARTED

_START, _STOP = 30, 10  # seconds
_TUN = Path("/dev/net/tun")  # devices.txt: character device, major 10, minor 200


@dataclass(frozen=True, slots=True)
class Place:
    """Where the daemons' files are; `run` is also OVS_RUNDIR of every tool that shall find them."""

    run: Path = Path(RUN)
    schema: Path = Path(SCHEMA_FILE)

    @property
    def socket(self) -> Path:
        """Where the database listens."""
        return self.run / "db.sock"

    @property
    def database(self) -> Path:
        """Ours; it goes with the machine's boot, as all that it describes does."""
        return self.run / "relink.db"

    def pidfile(self, daemon: str) -> Path:
        """Return the file that `daemon` keeps locked while it lives."""
        return self.run / f"{daemon}.pid"

    def log(self, daemon: str) -> Path:
        """Return where a daemon that we start writes what goes wrong."""
        return self.run / f"{daemon}.log"


Holder = Callable[[Path], int]


def start(
    place: Place,
    instance: str,
    holder: Holder,
    started: Callable[[str], None] = lambda _daemon: None,
) -> None:
    """Start ovsdb-server and ovs-vswitchd, or the one of them that does not run.

    They live in the calling thread's network namespace, which has to be the data plane. Only for
    where no database answers, or one that Relink started: never beside somebody else's. `holder`
    returns the process that holds a pidfile, 0 for none; `started` is called with the name of each
    daemon once it serves.

    Raises:
        OSError: a program is not there, or did not start; the words are its own.
    """
    if not holder(place.pidfile("ovsdb-server")):
        place.run.mkdir(mode=0o755, parents=True, exist_ok=True)
        _prepare(place, instance)
        _daemon(place, "ovsdb-server", str(place.database), f"--remote=punix:{place.socket}")
        started("ovsdb-server")
    if not holder(place.pidfile("ovs-vswitchd")):
        _make_tun()
        # Not --mlockall: a container may not lock memory, and nothing here is worth it.
        _daemon(place, "ovs-vswitchd", f"unix:{place.socket}")
        started("ovs-vswitchd")


def end(place: Place, holder: Holder) -> None:
    """Stop both, ovs-vswitchd first, and keep their database for those that are started next.

    Raises:
        OSError: one of them does not end.
    """
    for daemon in ("ovs-vswitchd", "ovsdb-server"):
        _end(place.pidfile(daemon), holder)


def stop(place: Place, holder: Holder) -> None:
    """Stop both, and remove their database and their logs.

    Only for daemons whose database says that Relink started them, and has no bridges left: what
    they do for somebody else would end too.

    Raises:
        OSError: one of them does not end.
    """
    end(place, holder)
    for daemon in ("ovs-vswitchd", "ovsdb-server"):
        _bury(place, daemon)
        place.log(daemon).unlink(missing_ok=True)
    place.database.unlink(missing_ok=True)
    place.database.with_name(f".{place.database.name}.~lock~").unlink(missing_ok=True)


def _prepare(place: Place, instance: str) -> None:
    """Make the database unless a crash has left it, and write into it who starts the daemons."""
    operation: dict[str, Any]
    mark = ["map", [[STARTED, instance]]]
    if place.database.exists():
        changes = [["external_ids", "delete", ["set", [STARTED]]], ["external_ids", "insert", mark]]
        operation = {"op": "mutate", "table": DATABASE, "where": [], "mutations": changes}
    else:
        _run(place, "ovsdb-tool", "create", str(place.database), str(place.schema))
        operation = {"op": "insert", "table": DATABASE, "row": {"external_ids": mark}}
    answer = _run(
        place, "ovsdb-tool", "transact", str(place.database), json.dumps([DATABASE, operation])
    )
    if "error" in answer:
        raise OSError(f"{place.database}: {answer.strip()}; remove the file")


def _make_tun() -> None:
    """Make the device by which the userspace datapath makes interfaces: containers have none.

    Where it may not be made, Open vSwitch says what is missing, bridge by bridge.
    """
    if _TUN.exists():
        return
    with contextlib.suppress(OSError):
        _TUN.parent.mkdir(mode=0o755, exist_ok=True)
        os.mknod(_TUN, stat.S_IFCHR | 0o600, os.makedev(10, 200))


def _bury(place: Place, daemon: str) -> None:
    """Remove what a daemon left that was killed: its pidfile, and the socket that bears its number.

    One that runs holds its pidfile; only for where none does.
    """
    pidfile = place.pidfile(daemon)
    with contextlib.suppress(FileNotFoundError):
        pid = pidfile.read_text().strip()
        if pid.isdigit():
            (place.run / f"{daemon}.{pid}.ctl").unlink(missing_ok=True)
        pidfile.unlink()


def _daemon(place: Place, name: str, *words: str) -> None:
    _bury(place, name)
    # With --detach the program returns when the daemon is ready to serve.
    _run(
        place,
        name,
        *words,
        f"--pidfile={place.pidfile(name)}",
        f"--log-file={place.log(name)}",
        "--detach",
        "-vconsole:off",
        "-vsyslog:off",
        "-vfile:warn",
    )


def _run(place: Place, name: str, *words: str) -> str:
    program = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SBIN}")
    if not program:
        raise FileNotFoundError(f"{name} is not there: install Open vSwitch")
    try:
        done = subprocess.run(
            [program, *words],
            env={**os.environ, "OVS_RUNDIR": str(place.run)},
            stdin=subprocess.DEVNULL,
            # A daemon that inherited a pipe would keep it open: files have no end to wait for.
            capture_output=True,
            text=True,
            timeout=_START,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{name} has not started within {_START} s") from None
    if done.returncode:
        words_ = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        raise OSError(f"{name} does not start: {words_}")
    return done.stdout


def _end(pidfile: Path, holder: Holder) -> None:
    pid = holder(pidfile)
    if not pid:
        return
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if holder(pidfile) != pid:  # it ended, and the number may be another's by now
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, number)
            if select.select([process], [], [], _STOP)[0]:
                with contextlib.suppress(ChildProcessError):  # adopted, as by the first process
                    os.waitpid(pid, os.WNOHANG)
                return
        raise TimeoutError(f"{pidfile.stem} (pid {pid}) does not end")
    finally:
        os.close(process)
