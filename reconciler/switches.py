"""Open vSwitch, as passes use it: connected when it is needed, its daemons started if nobody has.

What it says is observers/ovs.py's, what it is told actuators/ovs.py's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from actuators.requests import Verdict
from model.facts import Facts
from model.keys import Key, NsKey
from model.look import Look
from model.resources import OvsBridge, OvsPort, Resource
from observers import ovs_facts
from observers.namespaces import inode_of, inside, path_of
from observers.process import ProcessWatch, how_it_ended
from reconciler.diff import Change

if TYPE_CHECKING:
    from actuators.ovs_daemons import Place
    from observers.ovs import Ovs

Refused = tuple[Key, Verdict, str]


class Switches:
    """A connection to Open vSwitch's database, made at the first need. Close it when done.

    `ring` is called, from another thread, when something changed there. Without `may_start` daemons
    that do not run are taken for having nothing yet. `started` is called with the name of each
    daemon that is started; `ended` with that of one that has ended unasked, and how, from another
    thread.
    """

    def __init__(
        self,
        ring: Callable[[], None] = lambda: None,
        *,
        may_start: bool = True,
        started: Callable[[str], None] = lambda _daemon: None,
        ended: Callable[[str, str], None] = lambda _daemon, _how: None,
    ) -> None:
        self._ring = ring
        self._may_start = may_start
        self._on_start, self._on_end = started, ended
        self._ovs: Ovs | None = None
        self._daemons: ProcessWatch[str] | None = None

    def read(self, facts: Facts, look: Look) -> tuple[dict[Key, Resource], str]:
        """Return the bridges and ports in sight, and why they cannot be told, if so."""
        from actuators.ovs_daemons import Place  # noqa: PLC0415 - most have no Open vSwitch

        there = Place().socket.exists()
        if not there and not look.ovs:
            return {}, ""  # nothing of ours can be there
        try:
            if look.ovs and not self._may_start and not there:
                missing = ovs_facts.missing_program()
                return {}, f"Open vSwitch: {missing} is not installed" if missing else ""
            if look.ovs and self._may_start:
                self._started(facts)
            state = self._connected().snapshot(facts.plane, facts.instance)
        except OSError as error:
            return {}, f"Open vSwitch: {error.strerror or error}" if look.ovs else ""
        return {
            key: resource
            for key, resource in state.resources.items()
            if look.everything or key.dev in (look.names or ())
        }, ""

    def write(self, steps: Sequence[Change], instance: str) -> list[Refused]:
        """Carry out steps in one transaction; return those that failed, and why."""
        from actuators import ovs  # noqa: PLC0415

        changes: list[ovs.Change] = []
        for step in steps:
            resource = step.after or step.before
            if isinstance(resource, OvsBridge | OvsPort):
                changes.append(("delete" if step.after is None else "modify", resource))
        try:
            committed = ovs.commit(self._connected(), changes, instance, ended=self._switch_ended)
        except OSError as error:
            words = f"Open vSwitch: {error.strerror or error}"
            return [(step.key, Verdict.RETRY, words) for step in steps]
        return [
            (result.key, result.verdict, result.words)
            for result in committed.results
            if result.verdict != Verdict.DONE
        ]

    def stop_daemons(self, facts: Facts) -> None:
        """Stop the daemons if this instance started them and nobody has a bridge there.

        Raises:
            OSError: one of them does not end.
        """
        from actuators import ovs_daemons  # noqa: PLC0415

        place = ovs_daemons.Place()
        if not place.socket.exists():
            return
        try:
            state = self._connected().snapshot(facts.plane, facts.instance)
        except OSError:
            return
        if state.started_by != facts.instance or _bridges(state.resources.values()):
            return
        self.close()  # so that their end rings no bell
        ovs_daemons.stop(place, ovs_facts.daemon_pid)

    def close(self) -> None:
        """End the connection."""
        self._unwatch()
        if self._ovs:
            self._ovs.close()
            self._ovs = None

    def _connected(self) -> Ovs:
        from observers.ovs import Ovs  # noqa: PLC0415 - 0.04 s

        if self._ovs is None:
            self._ovs = Ovs(self._ring)
        return self._ovs

    def _started(self, facts: Facts) -> None:
        """Start what of the daemons does not run, unless somebody else's do.

        Raises:
            OSError: they cannot be started.
        """
        from actuators import ovs_daemons  # noqa: PLC0415

        place = ovs_daemons.Place()
        server, switch = (ovs_facts.daemon_runs(place.pidfile(name)) for name in _DAEMONS)
        if server and switch:
            if not self._stranded(place, facts):
                if self._daemons is None:
                    self._watch(place)
                return
            self._unwatch()
            ovs_daemons.end(place, ovs_facts.daemon_pid)
        elif server:
            state = self._connected().snapshot(facts.plane, facts.instance)
            if not state.started_by:
                raise OSError("somebody's ovsdb-server runs without its ovs-vswitchd; start that")
        elif ovs_facts.answers(place.socket):
            return  # a server that keeps no pidfile where we look
        elif switch and not place.database.exists():
            # A server of ours would tell somebody else's switch that it has no bridges.
            raise OSError("somebody's ovs-vswitchd runs without its ovsdb-server; start that")
        if missing := ovs_facts.missing_program():
            raise OSError(f"{missing} is not installed")  # before one of the two is started
        with inside(path_of(facts.plane)):
            ovs_daemons.start(place, facts.instance, ovs_facts.daemon_pid, self._on_start)
        self._watch(place)

    def _stranded(self, place: Place, facts: Facts) -> bool:
        """Tell whether our switch is in another namespace than the data plane, which came anew.

        Raises:
            OSError: somebody else's is.
        """
        if not _elsewhere(place, facts.plane):
            return False
        state = self._connected().snapshot(facts.plane, facts.instance)
        if state.started_by != facts.instance:
            raise OSError(
                "somebody's ovs-vswitchd runs in another network namespace than the data plane, "
                "whose interfaces it cannot see; stop it, or use `mode: linux`"
            )
        return True

    def _watch(self, place: Place) -> None:
        """Ring when one of our daemons ends: the database does not tell that the other did."""
        if self._daemons is None:
            self._daemons = ProcessWatch(self._ended)
        for name in _DAEMONS:
            self._daemons.add(ovs_facts.daemon_pid(place.pidfile(name)), name)

    def _switch_ended(self) -> bool:
        """Tell whether ovs-vswitchd has ended since it was seen to run."""
        from actuators.ovs_daemons import Place  # noqa: PLC0415 - most have no Open vSwitch

        watched = self._daemons is not None
        return watched and not ovs_facts.daemon_runs(Place().pidfile("ovs-vswitchd"))

    def _unwatch(self) -> None:
        if self._daemons:
            self._daemons.close()
            self._daemons = None

    def _ended(self, daemon: str, process: int) -> None:
        self._on_end(daemon, how_it_ended(process))
        self._ring()


_DAEMONS = ("ovsdb-server", "ovs-vswitchd")


def _bridges(resources: Iterable[Resource]) -> list[Resource]:
    return [r for r in resources if isinstance(r, OvsBridge)]


def _elsewhere(place: Place, plane: NsKey) -> bool:
    """Tell whether the switch that runs is in another namespace than the data plane."""
    process = ovs_facts.daemon_pid(place.pidfile("ovs-vswitchd"))
    return ovs_facts.namespace_of(process) not in (0, inode_of(plane))


def auto_mode(plane: NsKey) -> tuple[Literal["linux", "ovs"], Literal["system", "netdev"]]:
    """Return what mode `auto` is here, and which datapath Open vSwitch has.

    Open vSwitch only where the kernel has its datapath, and a database answers or can be started,
    whose switch sees the data plane.

    Raises:
        OSError: the kernel does not say.
    """
    from actuators.ovs_daemons import Place  # noqa: PLC0415 - most have no Open vSwitch

    datapath, place = ovs_facts.datapath(), Place()
    reachable = ovs_facts.answers(place.socket) or not ovs_facts.missing_program()
    usable = datapath == "system" and reachable and not _elsewhere(place, plane)
    return ("ovs" if usable else "linux"), datapath
