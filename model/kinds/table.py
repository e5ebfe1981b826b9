"""What has to be known about a kind of link."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of link.

    Attributes:
        name: IFLA_INFO_KIND.
        recreate: the fields of `resources.Link` that the kernel cannot change on a live interface.
        pair: the kernel makes and removes it together with a second end.
    """

    name: str
    recreate: frozenset[str] = frozenset({"kind"})
    pair: bool = False
