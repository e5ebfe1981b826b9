"""The faults: what administrators, kernels, engines and Relink's own ends may do, a row each.

A file for each cause, with a table of its own; they come together here.
"""

from __future__ import annotations

from tests.faults.kinds.configuration import CONFIGURATION
from tests.faults.kinds.containers import CONTAINERS
from tests.faults.kinds.drift import AT_ONCE, DRIFT
from tests.faults.kinds.engine import ENGINE, SELDOM
from tests.faults.kinds.fault import Fault
from tests.faults.kinds.host import CLOCK, HOST
from tests.faults.kinds.netlink import NAMED, NETLINK
from tests.faults.kinds.relink import BESIDE, RELINK
from tests.faults.kinds.switch import SWITCH
from tests.lab import features

_ANYWHERE: dict[str, Fault] = {
    **CONTAINERS,
    **DRIFT,
    **AT_ONCE,
    **CONFIGURATION,
    **RELINK,
    **NETLINK,
}

# By what containers are.
OF_RUNTIME: dict[str, dict[str, Fault]] = {
    "netns": {
        **_ANYWHERE,
        **NAMED,
        **HOST,
        **BESIDE,
        **SWITCH,
        **(CLOCK if features.has("clock") else {}),
    },
    "docker": {**_ANYWHERE, **ENGINE},
}
FAULTS: dict[str, Fault] = {**_ANYWHERE, **NAMED, **HOST, **BESIDE, **SWITCH, **CLOCK, **ENGINE}

# What goes on for an hour to see whether anything grows.
SOAK = (*CONTAINERS, *DRIFT, *AT_ONCE)

# It depends on what the drift is, and on time, whether they come about.
_DEPENDING = (
    "no process can be started (EAGAIN)",
    "no processes for a while (EAGAIN)",
    "no more descriptors",
)

# Shares by which a kind is chosen: less where it takes long. One that has happened is chosen less
# often: four times the share makes a kind twice as frequent.
SHARES: dict[str, dict[str, float]] = {
    "netns": {
        # Most of them start it again.
        **dict.fromkeys([*RELINK, *BESIDE, *NETLINK, *NAMED, *HOST], 0.09),
        **dict.fromkeys(_DEPENDING, 0.18),
        "outer end busy for long (EBUSY)": 0.12,  # not with Open vSwitch; it takes seven seconds
        **dict.fromkeys(SWITCH, 1.5),  # only some sequences have Open vSwitch
    },
    "docker": {
        **dict.fromkeys(
            [*ENGINE, *CONTAINERS, *CONFIGURATION, *RELINK], 100
        ),  # 20 times each in 1,600
        **dict.fromkeys([*SELDOM, "killed, and drift meanwhile"], 500),
        **dict.fromkeys(NETLINK, 20),
    },
}

# How often each kind has to be in a long run. On Docker drift is a part of other faults, and what
# is of the kernel is the same kernel's.
LEAST: dict[str, dict[str, int]] = {
    "netns": dict.fromkeys(OF_RUNTIME["netns"], 50),
    "docker": {
        **dict.fromkeys(OF_RUNTIME["docker"], 0),
        **dict.fromkeys([*ENGINE, *CONTAINERS, *CONFIGURATION, *RELINK], 20),
    },
}
