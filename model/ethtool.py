"""The language of `ethtool`: arguments of ethtool(8) without the device, as typed values.

Offloads, ring sizes, coalescing and numbers of channels are typed; other settings are checked for
their verb only and kept as words, which become the arguments of a program and never a shell line.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256

from model.keys import Key
from model.options import OptionError, parse_integer
from model.resources import EthtoolCall, Link
from model.settings import LAYOUTS, SWITCHES, Which

# Verbs that set something and read no file, by what we call them; spellings of ethtool(8).
_OFFLOAD = "--offload"
_VERBS = {
    "--change": ("-s", "--change"),
    "--pause": ("-A", "--pause"),
    "--coalesce": ("-C", "--coalesce"),
    "--set-ring": ("-G", "--set-ring"),
    _OFFLOAD: ("-K", "--features", "--offload"),
    "--config-nfc": ("-N", "-U", "--config-nfc", "--config-ntuple"),
    "--rxfh": ("-X", "--rxfh", "--set-rxfh-indir"),
    "--set-channels": ("-L", "--set-channels"),
    "--set-priv-flags": ("--set-priv-flags",),
    "--set-eee": ("--set-eee",),
    "--set-fec": ("--set-fec",),
    "--set-phy-tunable": ("--set-phy-tunable",),
    "--set-tunable": ("--set-tunable",),
}
# The verbs of model.settings, and those of their words that no ioctl carries, only ethtool's own
# netlink family: they are left to the program.
_TYPED: dict[str, Which] = {
    "--set-ring": "ring", "--coalesce": "coalesce", "--set-channels": "channels"
}  # fmt: skip
_LEFT: dict[Which, frozenset[str]] = {
    "ring": frozenset({
        "rx-buf-len", "cqe-size", "tx-push", "rx-push", "tx-push-buf-len", "tcp-data-split",
        "hds-thresh",
    }),
    "coalesce": frozenset({
        "cqe-mode-rx", "cqe-mode-tx", "tx-aggr-max-bytes", "tx-aggr-max-frames",
        "tx-aggr-time-usecs",
    }),
    "channels": frozenset(),
}  # fmt: skip
VERBS = {spelling: verb for verb, spellings in _VERBS.items() for spelling in spellings}

# ethtool's own names of offloads: short, long, and the one kernel feature it stands for.
_LEGACY = {
    "rx": ("rx-checksumming", "rx-checksum"),
    "tx": ("tx-checksumming",),
    "sg": ("scatter-gather",),
    "tso": ("tcp-segmentation-offload",),
    "ufo": ("udp-fragmentation-offload", "tx-udp-fragmentation"),
    "gso": ("generic-segmentation-offload", "tx-generic-segmentation"),
    "gro": ("generic-receive-offload", "rx-gro"),
    "lro": ("large-receive-offload", "rx-lro"),
    "rxvlan": ("rx-vlan-offload", "rx-vlan-hw-parse"),
    "txvlan": ("tx-vlan-offload", "tx-vlan-hw-insert"),
    "ntuple": ("ntuple-filters", "rx-ntuple-filter"),
    "rxhash": ("receive-hashing", "rx-hashing"),
}
# Three of them stand for several kernel features each, and are no synonym of any.
GROUPS = {"tx": "tx-checksum-*", "sg": "tx-scatter-gather*", "tso": "tx-tcp*-segmentation"}
# The kernel's name of each of the others.
KERNEL_NAMES = {name: long[-1] for name, long in _LEGACY.items() if name not in GROUPS}
# netdev_features_strings, net/ethtool/common.c, without the synonyms above and without those that
# nobody can change (NETIF_F_NEVER_CHANGE, linux/netdev_features.h).
# fmt: off
_KERNEL = (
    "esp-hw-offload", "esp-tx-csum-hw-offload", "fcoe-mtu", "highdma", "hsr-dup-offload",
    "hsr-fwd-offload", "hsr-tag-ins-offload", "hsr-tag-rm-offload", "hw-tc-offload",
    "l2-fwd-offload", "loopback", "macsec-hw-offload", "rx-all", "rx-fcs", "rx-gro-hw",
    "rx-gro-list", "rx-udp-gro-forwarding", "rx-udp_tunnel-port-offload", "rx-vlan-filter",
    "rx-vlan-stag-filter", "rx-vlan-stag-hw-parse", "tls-hw-record", "tls-hw-rx-offload",
    "tls-hw-tx-offload", "tx-checksum-fcoe-crc", "tx-checksum-ip-generic", "tx-checksum-ipv4",
    "tx-checksum-ipv6", "tx-checksum-sctp", "tx-esp-segmentation", "tx-fcoe-segmentation",
    "tx-gre-csum-segmentation", "tx-gre-segmentation", "tx-gso-list", "tx-gso-partial",
    "tx-gso-robust", "tx-ipxip4-segmentation", "tx-ipxip6-segmentation", "tx-nocache-copy",
    "tx-scatter-gather", "tx-scatter-gather-fraglist", "tx-sctp-segmentation",
    "tx-tcp-accecn-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation",
    "tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-tunnel-remcsum-segmentation",
    "tx-udp-segmentation", "tx-udp_tnl-csum-segmentation", "tx-udp_tnl-segmentation",
    "tx-vlan-stag-hw-insert",
)
# fmt: on
FEATURES = {name: name for name in (*_LEGACY, *_KERNEL)} | {
    synonym: name for name, synonyms in _LEGACY.items() for synonym in synonyms
}


@dataclass(frozen=True, slots=True)
class Ethtool:
    """Settings of one interface.

    Attributes:
        offloads: feature and whether it is on, sorted by name; ethtool's short name where there
            is one. `tx`, `sg` and `tso` come before the kernel features that they cover, which
            is the order to set them in.
        ring, coalesce, channels: parameter and its value by ethtool's names, sorted; 1 is on.
        other: for each other setting, in order, its verb (long form) and its arguments; the
            device goes between them.
    """

    offloads: tuple[tuple[str, bool], ...] = ()
    ring: tuple[tuple[str, int], ...] = ()
    coalesce: tuple[tuple[str, int], ...] = ()
    channels: tuple[tuple[str, int], ...] = ()
    other: tuple[tuple[str, ...], ...] = ()


def parse(settings: Sequence[str]) -> Ethtool:
    """Parse settings, each as `--offload rx off`; a later value wins over an earlier one.

    Raises:
        OptionError: a verb, feature or parameter is unknown, a value is out of range, or a word is
            missing, unquoted or unprintable.
    """
    offloads: dict[str, bool] = {}
    values: dict[Which, dict[str, int]] = {which: {} for which in LAYOUTS}
    other: list[tuple[str, ...]] = []
    for setting in settings:
        verb, *arguments = _split(setting)
        if verb not in VERBS:
            raise OptionError(f"unknown verb {verb!r}; expected one of {', '.join(VERBS)}")
        if not arguments:
            raise OptionError(f"{verb!r} needs arguments, as `--offload tx off`")
        if VERBS[verb] == _OFFLOAD:
            _offloads(arguments, offloads)
        elif which := _TYPED.get(VERBS[verb]):
            if left := _values(which, arguments, values[which]):
                other.append((VERBS[verb], *left))
        else:
            other.append((VERBS[verb], *arguments))
    typed = {which: tuple(sorted(found.items())) for which, found in values.items()}
    return Ethtool(
        tuple(sorted(offloads.items())),
        typed["ring"], typed["coalesce"], typed["channels"], tuple(other),
    )  # fmt: skip


def format(ethtool: Ethtool) -> tuple[str, ...]:  # noqa: A001 - ethtool.format is its name
    """Return the settings as `parse` reads them: what is typed, then the others in order."""
    # Groups first and by themselves: within one setting "on" wins over "off" (ethtool 6.1).
    switched: tuple[list[str], list[str]] = ([], [])
    for name, on in ethtool.offloads:
        switched[name not in GROUPS].extend((name, "on" if on else "off"))
    typed: dict[str, list[str]] = {}
    for verb, values in zip(
        _TYPED, (ethtool.ring, ethtool.coalesce, ethtool.channels), strict=True
    ):
        typed[verb] = []
        for name, value in values:
            switch = "on" if value else "off"
            typed[verb] += (name, switch if name in SWITCHES else str(value))
    settings = [(_OFFLOAD, *words) for words in switched if words]
    settings += [(verb, *words) for verb, words in typed.items() if words]
    return (*map(" ".join, settings), *map(shlex.join, ethtool.other))


_MARK = "relink-ethtool-"


def call(link: Key, argv: tuple[str, ...]) -> EthtoolCall:
    """Return the run of one of `Ethtool.other` on an interface."""
    digest = sha256("\0".join((link.dev, *argv)).encode()).hexdigest()[:32]
    return EthtoolCall(key=Key(link.ns, "ethtool", link.dev, digest), argv=argv)


def mark(call: EthtoolCall) -> str:
    """Return the alternative name that an interface has once a run has succeeded on it.

    It has the interface's name in it, because a namespace has each alternative name only once; and
    it goes when the interface goes.
    """
    return _MARK + call.key.detail


def calls_made(link: Link) -> list[Key]:
    """Return the keys of the runs that an interface is marked with."""
    return [
        Key(link.key.ns, "ethtool", link.key.dev, name.removeprefix(_MARK))
        for name in link.other_names
        if name.startswith(_MARK)
    ]


def _split(setting: str) -> list[str]:
    """Split into words at spaces; quotes and backslashes keep words together, nothing else does."""
    text = setting.strip(" \t\r\n")
    if not all(character.isprintable() or character == "\t" for character in text):
        raise OptionError(f"{setting!r} holds unprintable characters; only text is allowed")
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise OptionError(f"{setting!r} cannot be split into words: {error}") from None
    if not words:
        raise OptionError("an empty setting; expected ethtool arguments, as `--offload tx off`")
    return words


def _offloads(words: list[str], offloads: dict[str, bool]) -> None:
    """Add pairs of feature and state.

    Of what contradicts itself in one setting, on wins: ethtool sends one set of bits, in which only
    on can be told from silence (measured with 6.1). Of two settings the later one wins.
    """
    pairs: list[tuple[str, bool]] = []
    for number, word in enumerate(words[::2]):
        if word not in FEATURES:
            raise OptionError(
                f"unknown feature {word!r}, word {2 * number + 2}; expected one of"
                f" {', '.join(_LEGACY)}, their long names, or a kernel feature that"
                " `ethtool --show-features` lists"
            )
        state = words[2 * number + 1] if 2 * number + 1 < len(words) else ""
        if state not in ("on", "off"):
            raise OptionError(f"feature {word!r} is {state!r}; expected on or off")
        pairs.append((FEATURES[word], state == "on"))
    for name, on in sorted(pairs, key=lambda pair: pair[1]):
        if name in GROUPS:  # what was said before of one of the group no longer holds
            for member in [member for member in offloads if fnmatchcase(member, GROUPS[name])]:
                del offloads[member]
        offloads[name] = on


def _values(which: Which, words: list[str], values: dict[str, int]) -> list[str]:
    """Add pairs of parameter and value; return those that are left to the program."""
    places = LAYOUTS[which].places
    left: list[str] = []
    for number, word in enumerate(words[::2]):
        where = f"word {2 * number + 2} of {which}"
        if word not in places and word not in _LEFT[which]:
            raise OptionError(
                f"unknown parameter {word!r}, {where}; expected one of"
                f" {', '.join((*places, *sorted(_LEFT[which])))}"
            )
        if 2 * number + 1 >= len(words):
            raise OptionError(f"{word!r}, {where}, needs a value")
        value = words[2 * number + 1]
        if word in _LEFT[which]:
            left += (word, value)
        elif word in SWITCHES:
            if value not in ("on", "off"):
                raise OptionError(f"{word!r} is {value!r}; expected on or off")
            values[word] = int(value == "on")
        else:
            try:
                values[word] = parse_integer(value)
            except OptionError as error:
                raise OptionError(f"{word!r}: {error}") from None
    return left
