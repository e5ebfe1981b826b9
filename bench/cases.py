"""The cases: each makes its state, measures Relink and the floor in turn, and checks the kernel."""

from __future__ import annotations

from bench import live, passes, programs
from bench.measuring import Case

CASES: dict[str, Case] = {
    "start-up": programs.start_up,
    "create": passes.create,
    "no-op": passes.no_op,
    "event": passes.event,
    "drift": live.drift,
    "appearing": live.appearing,
    "changing": live.changing,
    "memory": live.memory,
    "idle": live.idle,
    "teardown": passes.teardown,
    "codec": passes.decoding,
}
