"""Writing bridges and ports of Open vSwitch: one transaction for all that a pass wants.

The connection is the caller's; how it stays current is its business.

What to know of an interface that is plugged in (3.1): it has to be up, which is not done here;
ovs-vswitchd makes it promiscuous itself. In userspace, TCP through it never connects while the
other end of the veth leaves checksums to the device: `tx off` is needed there. A userspace
bridge's own interface is a tap with the address of other_config:hwaddr; it forwards while that
is down, and so it stays down, silent.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ovs.db.idl import Idl, Transaction

from actuators.requests import Verdict
from model.keys import Key
from model.ovs import INSTANCE
from model.resources import OvsBridge, OvsPort

Verb = Literal["create", "modify", "delete"]
Change = tuple[Verb, OvsBridge | OvsPort]
Refusal = tuple[Verdict, str]
DONE: Refusal = (Verdict.DONE, "")
_GLANCE = 0.1  # seconds, after which it is seen whether ovs-vswitchd still runs


class Connection(Protocol):
    """What is needed of a connection to the database; observers.ovs.Ovs is one."""

    def synced(self, deadline: float) -> AbstractContextManager[Idl]:
        """Give the body the replica alone, with all that was committed before in it."""

    def turn(self, deadline: float) -> None:
        """Take in what the server says, waiting for it; TimeoutError after `deadline`."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one change, in words if it was not done."""

    key: Key
    verdict: Verdict = Verdict.DONE
    words: str = ""


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of some changes, in their order.

    Attributes:
        results: one for each.
        transactions: how many were sent: 0 if everything was as wanted.
    """

    results: tuple[Result, ...]
    transactions: int


def commit(
    connection: Connection,
    changes: Sequence[Change],
    instance: str,
    seconds: float = 10,
    ended: Callable[[], bool] = lambda: False,
) -> Committed:
    """Make all changes in one transaction and wait until ovs-vswitchd has carried them out.

    Not for one that has `ended`, of which the database does not tell.

    What is both deleted and created takes two, because ovs-vswitchd has to see that it was gone:
    the userspace datapath (3.1) stays on the interface that it opened, and receives nothing from
    another one that has come by the same name. So a port is deleted and created whenever its
    interface is made anew.

    A transaction that met somebody else's is built again from what is there then. Nothing that
    lacks the mark of `instance` is changed. `seconds` are for each transaction: 200 veths take
    0.4 s to plug in and 3 s to pull out, nearly all of it in ovs-vswitchd (3.1, userspace).

    Raises:
        OSError: the database does not answer within `seconds`; what was sent may yet be done.
    """
    created = {resource.key for verb, resource in changes if verb == "create"}
    first = [c for c in changes if c[0] == "delete" and c[1].key in created]
    if not first:
        return _commit(connection, changes, instance, seconds, ended)
    removed = _commit(connection, first, instance, seconds, ended)
    rest = _commit(connection, [c for c in changes if c not in first], instance, seconds, ended)
    answers = iter(removed.results), iter(rest.results)
    results = tuple(next(answers[change not in first]) for change in changes)
    return Committed(results, removed.transactions + rest.transactions)


def _commit(
    connection: Connection,
    changes: Sequence[Change],
    instance: str,
    seconds: float,
    ended: Callable[[], bool],
) -> Committed:
    deadline = time.monotonic() + seconds
    sent = 0
    with connection.synced(deadline) as idl:
        while True:
            seen = idl.change_seqno
            transaction = Transaction(idl)
            results = _build(idl, transaction, changes, instance)
            while (status := transaction.commit()) == Transaction.INCOMPLETE:
                connection.turn(deadline)
            sent += status != Transaction.UNCHANGED
            if status != Transaction.TRY_AGAIN:
                break
            while idl.change_seqno == seen:
                connection.turn(deadline)
        if status == Transaction.SUCCESS:
            wanted = transaction.get_increment_new_value()
            words = ""
            try:
                while not words and _root(idl).cur_cfg < wanted:
                    connection.turn(min(deadline, time.monotonic() + _GLANCE))
                    words = "ovs-vswitchd has ended before it had done it" if ended() else ""
            except TimeoutError:
                words = f"ovs-vswitchd has not done it within {seconds:g} s; does it run?"
            if words:
                return Committed(_failed(results, Verdict.RETRY, words), sent)
        elif status != Transaction.UNCHANGED:
            words = f"the database refuses it: {transaction.get_error()}"
            return Committed(_failed(results, Verdict.REFUSED, words), sent)
        return Committed(_judged(idl, changes, results), sent)


def _build(
    idl: Idl, transaction: Transaction, changes: Sequence[Change], instance: str
) -> list[Result]:
    root = _root(idl)
    writing = _Writing(idl, transaction, root, instance)
    root.increment("next_cfg")  # sent only if there is something to write
    results = []
    for verb, resource in changes:
        match resource:
            case OvsBridge():
                refusal = writing.bridge(resource, keep=verb != "delete")
            case OvsPort():
                refusal = writing.port(resource, keep=verb != "delete")
        results.append(Result(resource.key, *refusal))
    return results


def _root(idl: Idl) -> Any:
    for row in idl.tables["Open_vSwitch"].rows.values():
        return row
    raise OSError(errno.ENODATA, "Open vSwitch's database is empty; `ovs-vsctl init` makes it one")


class _Writing:
    """One transaction being built. Only what differs is written, so that nothing is no writing.

    References are added and removed one by one (mutations), so that somebody else's change of the
    same bridge does not collide with ours.
    """

    def __init__(self, idl: Idl, transaction: Transaction, root: Any, instance: str) -> None:
        self._idl, self._transaction, self._root = idl, transaction, root
        self._mark = {INSTANCE: instance}
        self._bridges = {row.name: row for row in idl.tables["Bridge"].rows.values()}
        self._ports = {
            port.name: (port, bridge) for bridge in self._bridges.values() for port in bridge.ports
        }

    def bridge(self, wanted: OvsBridge, *, keep: bool) -> Refusal:
        """Make a bridge as it should be, or remove it with all that is plugged into it."""
        name = wanted.key.dev
        row = self._bridges.get(name)
        if row and not self._ours(row):
            return Verdict.VANISHED, f"a bridge {name} is there that is not ours"
        if not keep:
            if row:
                self._root.delvalue("bridges", self._bridges.pop(name))
                row.delete()
            return DONE
        if not row:
            row = self._insert("Bridge", name)
            self._bridges[name] = row
            # The interface of the bridge itself, as ovs-vsctl(8) makes it; ovs-vswitchd makes one
            # of its own otherwise, which nobody can see.
            row.ports = [self._new_port(name, "internal")]
            self._root.addvalue("bridges", row)
        _set(row, "datapath_type", wanted.datapath)
        # A learning switch by itself, without waiting for a controller.
        _set(row, "fail_mode", ["standalone"])
        # Off: a snooping switch asks everybody for their groups.
        _set(row, "mcast_snooping_enable", value=False)
        if wanted.mac:
            known = getattr(row, "other_config", {})
            _set(row, "other_config", known | {"hwaddr": wanted.mac})
        return DONE

    def port(self, wanted: OvsPort, *, keep: bool) -> Refusal:
        """Plug an interface into a bridge, move it there, or pull it out."""
        name = wanted.key.dev
        row, holder = self._ports.get(name, (None, None))
        if row and not self._ours(row):
            return Verdict.VANISHED, f"a port {name} is there that is not ours"
        if not keep:
            if row:
                del self._ports[name]
                holder.delvalue("ports", row)
                row.delete()
            return DONE
        bridge = self._bridges.get(wanted.bridge)
        if not bridge:
            return Verdict.VANISHED, f"the bridge {wanted.bridge} is gone"
        if not row:
            row = self._new_port(name, "")
            bridge.addvalue("ports", row)
        elif holder is not bridge:
            holder.delvalue("ports", row)
            bridge.addvalue("ports", row)
        self._ports[name] = (row, bridge)
        return DONE

    def _ours(self, row: Any) -> bool:
        # Still so when the transaction is carried out, or it is built again.
        row.verify("external_ids")
        return bool(row.external_ids.get(INSTANCE) == self._mark[INSTANCE])

    def _new_port(self, name: str, type_: str) -> Any:
        interface = self._transaction.insert(self._idl.tables["Interface"])
        interface.name = name
        interface.type = type_
        port = self._insert("Port", name)
        port.interfaces = [interface]
        return port

    def _insert(self, table: str, name: str) -> Any:
        row = self._transaction.insert(self._idl.tables[table])
        row.name = name
        row.external_ids = self._mark
        return row


def _set(row: Any, column: str, value: object) -> None:
    """Write a column if it differs; a new row has no values yet."""
    if getattr(row, column, None) != value:
        setattr(row, column, value)


def _failed(results: Sequence[Result], verdict: Verdict, words: str) -> tuple[Result, ...]:
    return tuple(
        Result(each.key, verdict, words) if each.verdict is Verdict.DONE else each
        for each in results
    )


def _judged(idl: Idl, changes: Sequence[Change], results: Sequence[Result]) -> tuple[Result, ...]:
    """Add what ovs-vswitchd says is wrong with an interface; a bridge has one of its own name.

    Where the datapath is not to be had, it says so to its log alone (3.1): the interfaces of that
    bridge have no error, but no number either.
    """
    rows = {row.name: row for row in idl.tables["Interface"].rows.values()}
    types = {row.name: row.datapath_type for row in idl.tables["Bridge"].rows.values()}
    judged = []
    for (verb, resource), said in zip(changes, results, strict=True):
        result = said
        row = rows.get(result.key.dev)
        if row and verb != "delete" and result.verdict is Verdict.DONE:
            if row.error:
                result = Result(result.key, Verdict.RETRY, row.error[0])
            elif not row.ofport:
                bridge = resource.bridge if isinstance(resource, OvsPort) else resource.key.dev
                made = bridge in rows and rows[bridge].ofport
                why = _unplugged(bridge) if made else _unmade(types.get(bridge, ""))
                result = Result(result.key, *why)
        judged.append(result)
    return tuple(judged)


def _unmade(datapath: str) -> Refusal:
    needs = "/dev/net/tun" if datapath == "netdev" else "the kernel's openvswitch"
    words = f"ovs-vswitchd cannot make the datapath `{datapath or 'system'}`, which needs {needs}"
    return Verdict.UNSUPPORTED, words


def _unplugged(bridge: str) -> Refusal:
    return Verdict.RETRY, f"ovs-vswitchd has not plugged it into {bridge}"
