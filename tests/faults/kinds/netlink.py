"""What the kernel does to whoever talks to it: it forgets, refuses, interrupts, and moves on."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.faults import kernel
from tests.faults.injection import happened, injected, within
from tests.faults.kinds.containers import MOST
from tests.faults.kinds.drift import DRIFT, drift
from tests.faults.kinds.fault import ALL, Fault, Touched, until
from tests.faults.world import World
from tests.kernel.lab import Monitor

# Events that are more than fit: each takes a page or so of a receive buffer of 16 MiB (twice what
# observers/doorbells.py asks for, as the kernel counts: socket(7)).
_STORM = 12000
_INTERRUPTED, _STOP = "NLM_F_DUMP_INTR", "--- SIGSTOP"  # in the words of strace(1)
_MANY = 700  # addresses, which are more than one message holds (32 KiB, netlink_dump() of Linux 6)
_TRIES = 1000  # stops between two messages of an answer
_SOON = 2.0  # seconds
# After 6.3 s the seventh wait begins, of 6.4 s (reconciler/retries.py).
_LONG, _AT_ONCE = 6.6, 4.0  # seconds
_STARTING = "vfork,clone,clone3,fork"
_REFUSED = 6  # threads and programs


def _deaf(world: World) -> Touched:
    """More rings than can be heard, and something that is lost among them (ENOBUFS)."""
    lost = world.log_text().count("kernel_events_lost")
    world.engine.signal(signal.SIGSTOP)
    world.monitor.close()  # which would be deaf, too
    storm = ["link set mine2 alias storm", "link set mine2 alias somebody"]
    kernel.ip(storm * (_STORM // 2), world.place())
    world.monitor = Monitor()
    touched = drift(world)
    world.engine.signal(signal.SIGCONT)
    until(
        lambda: world.log_text().count("kernel_events_lost") > lost,
        "it says that it is deaf",
    )
    return touched


def _call(name: str, what: str, most: int, cause: Fault = drift) -> Fault:
    """Return a fault that does something to one of the next system calls of a pass."""

    def fault(world: World) -> Touched:
        if world.engine.plane_goes:  # what it is in has no right to be traced
            return None
        nth = world.random.randint(1, most)
        with injected(world.engine.pid(), name, f"{what}:when={nth}", world.traced):
            touched = cause(world)
            if not happened(world.traced, _SOON / 10):
                world.idle.append("the pass had fewer calls")
        return touched

    return fault


def _no_processes(world: World) -> Touched:
    """No thread and no program can be started for a while, as where a limit of pids is reached."""
    if world.engine.plane_goes:
        return None
    with injected(world.engine.pid(), _STARTING, "error=EAGAIN", world.traced):
        touched = DRIFT["table of nftables deleted"](world)  # by nft(8), which is started for it
        within(_SOON, lambda: world.traced.read_text().count("INJECTED") >= _REFUSED)
    if not happened(world.traced, 0):
        world.idle.append("nothing was to be started")
    return touched


def _ended_at(how: str) -> Callable[[World], Touched]:
    """Return a fault that ends Relink right after one of the messages that it sends."""

    def fault(world: World) -> Touched:
        if world.engine.plane_goes:
            return None
        nth = world.random.randint(1, 12)
        number = signal.Signals[f"SIG{how}"]
        with injected(world.engine.pid(), "sendto", f"signal={how}:when={nth}", world.traced):
            touched = drift(world)
            early = happened(world.traced, _SOON / 10, number.name)
        if not early:
            world.idle.append("the pass had fewer messages")
            world.engine.signal(number)
        code = world.engine.ended()
        if number == signal.SIGTERM and code:
            raise AssertionError(f"exit code {code} of an orderly stop")
        world.relaunch()
        return ALL if number == signal.SIGTERM else touched

    return fault


def _gone_at(world: World) -> Touched:
    """A namespace goes right after one of the messages by which it is wired."""
    if world.engine.plane_goes or len(world.nodes()) >= MOST:
        return None
    name = f"node_{len(world.nodes()) + 1}"
    nth = world.random.randint(1, 16)
    with injected(world.engine.pid(), "sendto", f"signal=STOP:when={nth}", world.traced):
        world.start(name)
        if not happened(world.traced, _SOON / 10, signal.SIGSTOP.name):
            world.idle.append("the pass had fewer messages")
        world.stop(name)
        if world.random.random() < 0.5:  # and comes again as another
            world.start(name)
        world.engine.signal(signal.SIGCONT)
    world.engine.signal(signal.SIGCONT)  # it may have got as far again
    return {name}


def _gone_at_once(world: World) -> Touched:
    """Namespaces go at any moment after they came, while they are wired or before or after."""
    if len(world.nodes()) >= MOST:
        return None
    name = f"node_{len(world.nodes()) + 1}"
    for _ in range(5):
        world.engine.start(name)
        kernel.vanish(name, after=world.random.uniform(0, 0.02))
    return {name}


def _interrupted(world: World) -> Touched:
    """An address comes and goes whenever it reads, so that a dump of them is inconsistent."""
    if world.engine.plane_goes:
        return None
    container = world.random.choice(world.nodes())  # which are looked at alone
    [link] = world.declared.links(container)
    place, pid = world.place(container), world.engine.pid()
    many = [f"addr add 10.201.{n // 250}.{n % 250 + 1}/32 dev foreign0" for n in range(_MANY)]
    one = "10.202.0.1/32 dev foreign0"
    kernel.ip(["link add foreign0 type bridge", *many], place)
    # The kernel fills the next message while one is fetched: what is early enough comes before.
    with injected(pid, "sendto,recvfrom", "signal=STOP:when=1+", world.traced):
        kernel.ip([f"link set {link.inner} mtu {link.mtu - 100}"], place)
        stops = 0
        for n in range(_TRIES):
            more = partial(_stopped_or_interrupted, world.traced, stops + 1)
            if not within(_SOON / 10, more):  # it has read all; or was told to go on too early
                world.engine.signal(signal.SIGCONT)
                kernel.ip([f"link set {link.inner} mtu {link.mtu - 100 - n}"], place)
                continue
            text = world.traced.read_text()
            if _INTERRUPTED in text:
                break
            stops = text.count(_STOP)
            kernel.ip([f"addr add {one}", f"addr delete {one}"], place)
            world.engine.signal(signal.SIGCONT)
    world.engine.signal(signal.SIGCONT)
    kernel.ip(["link delete foreign0"], place)
    if _INTERRUPTED not in world.traced.read_text():
        raise AssertionError("no dump was interrupted")
    return {container}


def _stopped_or_interrupted(traced: Path, times: int) -> bool:
    text = traced.read_text()
    return _INTERRUPTED in text or text.count(_STOP) >= times


def _busy_for_long(world: World) -> Touched:
    """It is tried ever more seldom; but at once when something changes where it failed."""
    return _busy(world, _LONG)


def _busy(world: World, seconds: float = 0.0) -> Touched:
    """An outer end cannot be plugged in as long as somebody else receives for it (EBUSY)."""
    if world.engine.plane_goes or world.declared.mode != "linux":
        return None
    container = world.random.choice(world.containers)
    link = world.random.choice([link for link in world.declared.links(container) if link.bridge])
    key = f"{container}:{link.inner}"
    world.engine.signal(signal.SIGSTOP)
    taken = kernel.ip(
        [f"link set {link.outer} nomaster", f"link add foreign1 link {link.outer} type macvlan"],
        world.place(),
    )
    world.engine.signal(signal.SIGCONT)
    if taken:
        raise AssertionError(taken)
    until(lambda: "EBUSY" in world.said_of(key), f"status says that {key} is busy")
    time.sleep(seconds)  # nothing is awaited: that nothing changes is the fault
    kernel.ip(["link delete foreign1"], world.place())
    if seconds:
        until(lambda: not world.said_of(key), f"{key} is tried at once", _AT_ONCE)
    return {container}


def _taken(world: World) -> Touched:
    """Somebody has the name of an outer end, which is said as long as it is so."""
    container = world.random.choice(world.containers)
    link = world.random.choice(world.declared.links(container))
    key = f"{container}:{link.inner}"
    world.engine.signal(signal.SIGSTOP)
    lines = [f"link delete {link.outer}", f"link add {link.outer} type bridge"]
    refused = kernel.ip(lines, world.place())
    world.engine.signal(signal.SIGCONT)
    if refused:
        raise AssertionError(refused)
    until(lambda: "Conflict" in world.said_of(key), f"status says that {key} cannot be")
    kernel.ip([f"link delete {link.outer}"], world.place())
    return {container}


NETLINK: dict[str, Fault] = {
    "events lost (ENOBUFS)": _deaf,
    "answer lost (ENOBUFS)": _call("recvfrom", "error=ENOBUFS", 8),
    "answer interrupted (EINTR)": _call("recvfrom", "error=EINTR", 8),
    "request refused (ENOMEM)": _call("sendto", "error=ENOMEM", 8),
    "no process can be started (EAGAIN)": _call(
        _STARTING,
        "error=EAGAIN",
        1,
        DRIFT["table of nftables deleted"],  # by nft(8), which is started for it
    ),
    "no processes for a while (EAGAIN)": _no_processes,
    "outer end busy (EBUSY)": _busy,
    "name taken": _taken,
    "namespace gone at a message": _gone_at,
}

# Where containers are named namespaces, and Relink a process that nobody else starts again.
NAMED: dict[str, Fault] = {
    "dump interrupted (NLM_F_DUMP_INTR)": _interrupted,
    "namespaces gone at once": _gone_at_once,
    "outer end busy for long (EBUSY)": _busy_for_long,
    "killed at a message": _ended_at("KILL"),
    "terminated at a message": _ended_at("TERM"),
}
