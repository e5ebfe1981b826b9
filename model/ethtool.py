"""The language of `ethtool`: arguments of ethtool(8) without the device, as typed values.

Offloads are typed; other settings are checked for their verb only and kept as words, which become
the arguments of a program and never a shell line.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from model.options import OptionError

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
_GROUPS = {"tx": "tx-checksum-*", "sg": "tx-scatter-gather*", "tso": "tx-tcp*-segmentation"}
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
        other: for each other setting, in order, its verb (long form) and its arguments; the
            device goes between them.
    """

    offloads: tuple[tuple[str, bool], ...] = ()
    other: tuple[tuple[str, ...], ...] = ()


def parse(settings: Sequence[str]) -> Ethtool:
    """Parse settings, each as `--offload rx off`; a later offload wins over an earlier one.

    Raises:
        OptionError: a verb or feature is unknown, or a word is missing, unquoted or unprintable.
    """
    offloads: dict[str, bool] = {}
    other: list[tuple[str, ...]] = []
    for setting in settings:
        verb, *arguments = _split(setting)
        if verb not in VERBS:
            raise OptionError(f"unknown verb {verb!r}; expected one of {', '.join(VERBS)}")
        if not arguments:
            raise OptionError(f"{verb!r} needs arguments, as `--offload tx off`")
        if VERBS[verb] == _OFFLOAD:
            _offloads(arguments, offloads)
        else:
            other.append((VERBS[verb], *arguments))
    return Ethtool(tuple(sorted(offloads.items())), tuple(other))


def format(ethtool: Ethtool) -> tuple[str, ...]:  # noqa: A001 - ethtool.format is its name
    """Return the settings as `parse` reads them: all offloads in one, then the others in order."""
    words = [word for name, on in ethtool.offloads for word in (name, "on" if on else "off")]
    offloads = (" ".join((_OFFLOAD, *words)),) if words else ()
    return offloads + tuple(shlex.join(setting) for setting in ethtool.other)


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
    """Add pairs of feature and state."""
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
        name = FEATURES[word]
        if name in _GROUPS:  # what was said before of one of the group no longer holds
            for member in [member for member in offloads if fnmatchcase(member, _GROUPS[name])]:
                del offloads[member]
        offloads[name] = state == "on"
