"""Bridges and ports of Open vSwitch, as its database tells them; knows not who wants which.

A connection is a replica of a few columns of the database (ovs.db.idl). A thread keeps it current
and rings; passes read it, and hand it to the actuator, under its lock.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ovs.db.idl import Idl, SchemaHelper, Transaction
from ovs.poller import Poller

from model.keys import Key, NsKey
from model.ovs import DATABASE, INSTANCE, NOT_SET_UP, RUN, SCHEMA, STARTED
from model.resources import OvsBridge, OvsPort

SOCKET = Path(RUN, "db.sock")

GONE = "the interface is gone"


@dataclass(frozen=True, slots=True)
class OvsState:
    """What the database holds.

    Attributes:
        resources: bridges and ports, foreign ones included; not the bridges' local ports.
        started_by: the instance that started the daemons, empty if somebody else did.
    """

    resources: Mapping[Key, OvsBridge | OvsPort] = field(default_factory=dict)
    started_by: str = ""


class _Replica(Idl):  # type: ignore[misc]  # ovs has no types
    """A replica that notes that it changed.

    Comparing it with what it was would miss what is done, undone by a pass and done once more
    before anybody looks.
    """

    changed = False

    def notify(self, _event: str, row: Any, _updates: object = None) -> None:
        """Take note of a row that came, went or changed; Idl calls this for each of them."""
        # The one row of Open_vSwitch counts transactions; whatever is done is done elsewhere too.
        self.changed |= row._table.name != DATABASE  # noqa: SLF001


class Ovs:
    """A connection to the database, for as long as the process lives.

    `ring` is called from a thread of this class when a bridge or a port, its mark or its error
    has changed, and when the database goes or comes. Nothing needs to be there at first.
    """

    def __init__(self, ring: Callable[[], None], path: Path = SOCKET) -> None:
        self.path = path
        self._ring = ring
        self._lock = threading.Lock()
        self._closed = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._idl = self._open()
        self._thread = threading.Thread(target=self._run, name="ovs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the connection and its thread."""
        self._closed = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._idl.close()
        os.close(self._wake)

    def snapshot(self, plane: NsKey, instance: str, seconds: float = 5) -> OvsState:
        """Return what the database holds now, everything that was committed before included.

        Raises:
            OSError: it does not answer within `seconds`, or is not there; the words say which.
        """
        with self.synced(time.monotonic() + seconds) as idl:
            return _read(idl, plane, instance)

    @contextlib.contextmanager
    def synced(self, deadline: float) -> Iterator[Idl]:
        """Let the body have the replica to itself, after all that was committed has arrived.

        `deadline` is in time.monotonic's seconds.

        Raises:
            OSError: that is not so by then.
        """
        with self._lock:
            try:
                self._sync(deadline)
                yield self._idl
            finally:
                # The thread waits on descriptors that may be others by now.
                os.eventfd_write(self._wake, 1)

    def turn(self, deadline: float) -> None:
        """Take in what the server says; wait for it if there is nothing. For a body of `synced`.

        Raises:
            TimeoutError: `deadline` has passed.
            ConnectionResetError: the server has gone.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(
                errno.ETIMEDOUT, "Open vSwitch's database does not answer in time", str(self.path)
            )
        connected = self._connected()
        poller = Poller()
        self._idl.wait(poller)
        poller.timer_wait(max(1, int(left * 1000)))
        poller.block()
        # Not before waiting: what answers a transaction is no change of the replica.
        self._idl.run()
        if connected and not self._connected():
            words = "Open vSwitch's database went away"
            raise ConnectionResetError(errno.ECONNRESET, words, str(self.path))

    def _sync(self, deadline: float) -> None:
        if not self._connected():
            _probe(self.path)
            # Its own reconnection backs off up to 8 s: start afresh.
            self._idl.close()
            self._idl = self._open()
            self._idl.changed = True  # from what it held before
        while True:
            while self._idl.state != Idl.IDL_S_MONITORING:
                self.turn(deadline)
            # A server answers in order and tells of changes before it answers (RFC 7047, 4.1.3):
            # after the answer to any question the replica holds all that was committed before.
            question = Transaction(self._idl)
            question.add_op({"op": "select", "table": "Open_vSwitch", "where": [], "columns": []})
            while (status := question.commit()) == Transaction.INCOMPLETE:
                self.turn(deadline)
            if status == Transaction.SUCCESS:
                return
            self.turn(deadline)

    def _connected(self) -> bool:
        # The state of an Idl stays "monitoring" while its connection is down.
        return bool(self._idl._session.is_connected())  # noqa: SLF001

    def _open(self) -> _Replica:
        helper = SchemaHelper(schema_json=copy.deepcopy(dict(SCHEMA)))
        helper.register_all()
        return _Replica(f"unix:{self.path}", helper, leader_only=False)

    def _run(self) -> None:
        """Keep the replica current, and ring when it has changed, whoever took that in."""
        was_there = False
        while not self._closed:
            poller = Poller()
            with self._lock:
                self._idl.run()
                there = self._connected() and self._idl.state == Idl.IDL_S_MONITORING
                changed, self._idl.changed = self._idl.changed, False
                self._idl.wait(poller)
            if changed or there != was_there:
                was_there = there
                self._ring()
            poller.fd_wait(self._wake, select.POLLIN)
            poller.block()
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)


def _read(idl: Idl, plane: NsKey, instance: str) -> OvsState:
    resources: dict[Key, OvsBridge | OvsPort] = {}
    started_by = ""
    for root in idl.tables["Open_vSwitch"].rows.values():
        started_by = root.external_ids.get(STARTED, "")
        for bridge in root.bridges:
            key = Key(plane, "ovs-bridge", bridge.name)
            resources[key] = OvsBridge(
                key=key,
                datapath=bridge.datapath_type or "system",
                mac=bridge.other_config.get("hwaddr", "").lower(),
                plain=bridge.fail_mode == ["standalone"] and not bridge.mcast_snooping_enable,
                owned=bridge.external_ids.get(INSTANCE) == instance,
            )
            for port in bridge.ports:
                if port.name == bridge.name:  # its local port, which comes and goes with it
                    continue
                key = Key(plane, "ovs-port", port.name)
                resources[key] = OvsPort(
                    key=key,
                    bridge=bridge.name,
                    owned=port.external_ids.get(INSTANCE) == instance,
                    error=_error(port),
                )
    return OvsState(resources, started_by)


def _error(port: Any) -> str:
    """Return what is wrong with a port.

    A port whose interface vanishes stays, with its number and without an error. What it says then
    varies (3.1): `ifindex` becomes 0 under kernel 6.18, nothing under 6.1 in userspace. So whoever
    knows the interfaces tells that one is gone. When ovs-vswitchd sets such a port up, say after a
    restart, the error is `could not open network device veth0 (No such device)`. When another
    interface comes by the same name, all looks well; the userspace datapath receives nothing from
    it, though, until the port has been deleted and created.
    """
    for interface in port.interfaces:
        if interface.error:
            return str(interface.error[0])
        if interface.ifindex == [0] and not interface.type:
            return GONE
        if not interface.ofport:
            return NOT_SET_UP
    return ""


def _probe(path: Path) -> None:
    """Say at once why the database cannot be reached, if so."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(0)
        try:
            sock.connect(str(path))
        except BlockingIOError:  # its backlog is full: somebody is there
            pass
        except OSError as error:
            words = f"Open vSwitch's database is not reachable: {error.strerror}"
            raise OSError(error.errno, words, str(path)) from error
