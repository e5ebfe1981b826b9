"""What has to be known about a kind of link, and its part of a message (IFLA_INFO_DATA)."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from model import netlink as nl

Encode = Callable[[object], bytes]
Decode = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute that is peculiar to a kind.

    Attributes:
        name: in `Link.settings`.
        number: IFLA_…, of its value for IPv4 where `number6` is given.
        number6: IFLA_… of its value for IPv6.
        encode, decode: value to payload, and back.
        in_place: the kernel takes another value on a live interface.
    """

    name: str
    number: int
    encode: Encode
    decode: Decode
    in_place: bool = False
    number6: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of link.

    Attributes:
        name: IFLA_INFO_KIND.
        recreate: the fields of `resources.Link` that the kernel cannot change on a live interface.
        attributes: what is peculiar to the kind.
        pair: the kernel makes and removes it together with a second end.
        stacked: it is a child of another interface, which it cannot outlive.
        has_mac: it has a hardware address of its own that can be set.
    """

    name: str
    recreate: frozenset[str] = frozenset({"kind"})
    attributes: tuple[Attribute, ...] = ()
    pair: bool = False
    stacked: bool = False
    has_mac: bool = True

    def encode(self, settings: Mapping[str, object]) -> bytes:
        """Return the attributes for these settings, for IFLA_INFO_DATA."""
        parts = []
        for attribute in self.attributes:
            if attribute.name in settings:
                value = settings[attribute.name]
                six = attribute.number6 and ":" in str(value)
                number = attribute.number6 if six else attribute.number
                parts.append(nl.attribute(number, attribute.encode(value)))
        return b"".join(parts)

    def decode(self, data: bytes) -> tuple[tuple[str, object], ...]:
        """Return the settings in IFLA_INFO_DATA, sorted; what is not in the table is left out."""
        found = nl.attributes(data, 0, len(data))
        settings: list[tuple[str, object]] = []
        for attribute in self.attributes:
            payload = found.get(attribute.number)
            if payload is None and attribute.number6:
                payload = found.get(attribute.number6)
            if payload is not None:
                settings.append((attribute.name, attribute.decode(payload)))
        return tuple(sorted(settings))

    def must_be_remade(self, changed: frozenset[str]) -> bool:
        """Tell whether the kernel cannot change all of these fields and settings in place."""
        fixed = {a.name for a in self.attributes if not a.in_place}
        return bool((self.recreate | fixed) & changed)


def number(name: str, code: int, layout: str, *, in_place: bool = False) -> Attribute:
    """Return an attribute that is a number; `layout` is struct's, as `=I` or `>H`."""
    packed = struct.Struct(layout)
    return Attribute(
        name,
        code,
        packed.pack,
        lambda payload: packed.unpack_from(payload)[0],
        in_place,
    )


def flag(name: str, code: int, *, in_place: bool = False) -> Attribute:
    """Return an attribute that is on or off (one byte)."""
    return Attribute(
        name, code, lambda value: bytes([bool(value)]), lambda payload: payload != b"\0", in_place
    )


def word(
    name: str, code: int, layout: str, words: Mapping[str, int], *, in_place: bool = False
) -> Attribute:
    """Return an attribute that people call by a word and the kernel by a number."""
    packed = struct.Struct(layout)
    called = {value: name for name, value in words.items()}

    def decode(payload: bytes) -> object:
        value = packed.unpack_from(payload)[0]
        return called.get(value, str(value))

    return Attribute(name, code, lambda value: packed.pack(words[str(value)]), decode, in_place)


def address(name: str, four: int, six: int, *, in_place: bool = False) -> Attribute:
    """Return an attribute that is an IP address of either family, as canonical text."""
    return Attribute(
        name,
        four,
        lambda value: ipaddress.ip_address(str(value)).packed,
        lambda payload: str(ipaddress.ip_address(payload)),
        in_place,
        six,
    )
