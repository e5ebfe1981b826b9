"""A netem qdisc as the kernel reads and writes it: TCA_OPTIONS and a handle; no sockets.

The kernel does not tell which distribution tables it was given, nor whether it was given a seed.
Both are in the qdisc's handle, which is at the same time how we know it for ours. Source:
linux/pkt_sched.h and netem_change() and netem_dump() of net/sched/sch_netem.c.
"""

from __future__ import annotations

import struct

from model import netlink as nl
from model.distributions import table
from model.netem import (
    DISTRIBUTIONS,
    GilbertElliottLoss,
    Netem,
    RandomLoss,
    Slot,
    StateLoss,
    canonical,
)

# Major number of a handle: ten fixed bits, "seeded", three bits of slot and two of delay
# distribution. The kernel's own choices begin at 0x8000 (qdisc_alloc_handle).
_MARK, _MARK_MASK = 0x5E00, 0xFFC0
_SEEDED = 0x20

_QOPT = struct.Struct("=6I")  # latency, limit, loss, gap, duplicate, jitter; both times in ticks
_CORR = struct.Struct("=3I")  # of delay, loss, duplicates
_PAIR = struct.Struct("=2I")  # tc_netem_reorder, tc_netem_corrupt: probability, correlation
_RATE = struct.Struct("=IiIi")  # rate, packet overhead, cell size, cell overhead
_SLOT = struct.Struct("=qqiiqq")  # min and max delay, packets, bytes, delay and jitter
_GI = struct.Struct("=5I")  # p13, p31, p32, p14, p23
_GE = struct.Struct("=4I")  # p, r, h, k1
_S64 = struct.Struct("=q")
_U64 = struct.Struct("=Q")
_U32_MAX = 0xFFFFFFFF


def handle_of(netem: Netem) -> int:
    """Return the handle that a qdisc of ours has.

    Two that differ in it cannot be changed into each other: netem_change() only ever adds or
    exchanges a table, so that one without needs a new qdisc.
    """
    slot = netem.slot.distribution if netem.slot else ""
    major = _MARK | DISTRIBUTIONS.index(netem.distribution)
    major |= (DISTRIBUTIONS.index(slot) + 1 if slot else 0) << 2
    return (major | (0 if netem.seed is None else _SEEDED)) << 16


def is_ours(handle: int) -> bool:
    """Tell whether a qdisc with this handle is one that some instance of Relink made."""
    return (handle >> 16) & _MARK_MASK == _MARK and not handle & 0xFFFF


def encode(netem: Netem) -> bytes:
    """Encode a canonical Netem as the payload of TCA_OPTIONS.

    Everything is said, zeros too: what a change does not mention stays as it was.
    """
    loss = netem.loss if isinstance(netem.loss, RandomLoss) else RandomLoss(0)
    parts = [
        _QOPT.pack(0, netem.limit, loss.probability, netem.gap, netem.duplicate, 0),
        nl.attribute(nl.TCA_NETEM_LATENCY64, _S64.pack(netem.delay)),
        nl.attribute(nl.TCA_NETEM_JITTER64, _S64.pack(netem.jitter)),
        nl.attribute(
            nl.TCA_NETEM_CORR,
            _CORR.pack(netem.delay_correlation, loss.correlation, netem.duplicate_correlation),
        ),
        nl.attribute(nl.TCA_NETEM_REORDER, _PAIR.pack(netem.reorder, netem.reorder_correlation)),
        nl.attribute(nl.TCA_NETEM_CORRUPT, _PAIR.pack(netem.corrupt, netem.corrupt_correlation)),
        nl.attribute(
            nl.TCA_NETEM_RATE,
            _RATE.pack(
                min(netem.rate, _U32_MAX),
                netem.packet_overhead,
                netem.cell_size,
                netem.cell_overhead,
            ),
        ),
        nl.u32(nl.TCA_NETEM_ECN, netem.ecn),
        nl.attribute(nl.TCA_NETEM_SLOT, _encode_slot(netem.slot or Slot())),
    ]
    if netem.rate > _U32_MAX:
        parts.append(nl.attribute(nl.TCA_NETEM_RATE64, _U64.pack(netem.rate)))
    if netem.distribution != "uniform":
        parts.append(nl.attribute(nl.TCA_NETEM_DELAY_DIST, table(netem.distribution)))
    if netem.slot and netem.slot.distribution:
        # Of slots the uniform distribution too needs a table: without one the kernel looks at
        # the shortest and the longest delay only (get_slot_next()).
        parts.append(nl.attribute(nl.TCA_NETEM_SLOT_DIST, table(netem.slot.distribution)))
    if netem.seed is not None:
        parts.append(nl.attribute(nl.TCA_NETEM_PRNG_SEED, _U64.pack(netem.seed)))
    match netem.loss:
        case StateLoss(p13, p31, p32, p23, p14):
            model = nl.attribute(nl.NETEM_LOSS_GI, _GI.pack(p13, p31, p32, p14, p23))
            parts.append(nl.nested(nl.TCA_NETEM_LOSS, model))
        case GilbertElliottLoss(p, r, h, k1):
            model = nl.attribute(nl.NETEM_LOSS_GE, _GE.pack(p, r, h, k1))
            parts.append(nl.nested(nl.TCA_NETEM_LOSS, model))
    return b"".join(parts)


def decode(options: bytes, handle: int) -> Netem:
    """Decode the payload of TCA_OPTIONS that a dump returns, canonically.

    Of a qdisc that is not ours nobody knows the distributions, nor whether the seed was asked
    for: they are taken as the kernel's defaults.

    Raises:
        struct.error: it is too short to be netem's.
    """
    _latency, limit, chance, gap, duplicate, _jitter = _QOPT.unpack_from(options)
    found = nl.attributes(options, _QOPT.size, len(options))
    corr = _CORR.unpack(found[nl.TCA_NETEM_CORR])
    reorder = _PAIR.unpack(found[nl.TCA_NETEM_REORDER])
    corrupt = _PAIR.unpack(found[nl.TCA_NETEM_CORRUPT])
    rate, overhead, cell_size, cell_overhead = _RATE.unpack(found[nl.TCA_NETEM_RATE])
    if nl.TCA_NETEM_RATE64 in found:
        rate = _U64.unpack(found[nl.TCA_NETEM_RATE64])[0]
    mark = handle >> 16 if is_ours(handle) else 0
    seed = found.get(nl.TCA_NETEM_PRNG_SEED) if mark & _SEEDED else None
    return canonical(
        Netem(
            limit=limit,
            delay=_S64.unpack(found[nl.TCA_NETEM_LATENCY64])[0],
            jitter=_S64.unpack(found[nl.TCA_NETEM_JITTER64])[0],
            delay_correlation=corr[0],
            distribution=DISTRIBUTIONS[mark & 3],
            loss=_decode_loss(found) or RandomLoss(chance, corr[1]),
            ecn=any(found.get(nl.TCA_NETEM_ECN, b"")),
            corrupt=corrupt[0],
            corrupt_correlation=corrupt[1],
            duplicate=duplicate,
            duplicate_correlation=corr[2],
            reorder=reorder[0] if gap else 0,  # without a gap the kernel does not look at it
            reorder_correlation=reorder[1],
            gap=gap,
            rate=rate,
            packet_overhead=overhead,
            cell_size=cell_size,
            cell_overhead=cell_overhead,
            slot=_decode_slot(found.get(nl.TCA_NETEM_SLOT), (mark >> 2 & 7) - 1),
            seed=_U64.unpack(seed)[0] if seed else None,
        )
    )


def has_seed(options: bytes) -> bool:
    """Tell whether the kernel that dumped these TCA_OPTIONS of a netem knows seeds at all."""
    return nl.TCA_NETEM_PRNG_SEED in nl.attributes(options, _QOPT.size, len(options))


def _encode_slot(slot: Slot) -> bytes:
    return _SLOT.pack(
        slot.min_delay, slot.max_delay, slot.packets, slot.bytes, slot.delay, slot.jitter
    )


def _decode_slot(raw: bytes | None, distribution: int) -> Slot | None:
    """Decode tc_netem_slot; `distribution` is the index of its table, -1 for none."""
    if not raw:
        return None
    shortest, longest, packets, size, delay, jitter = _SLOT.unpack(raw)
    if 0 <= distribution < len(DISTRIBUTIONS):
        return Slot(
            distribution=DISTRIBUTIONS[distribution],
            delay=delay,
            jitter=jitter,
            packets=packets,
            bytes=size,
        )
    return Slot(
        min_delay=shortest,
        max_delay=longest,
        delay=delay,
        jitter=jitter,
        packets=packets,
        bytes=size,
    )


def _decode_loss(found: dict[int, bytes]) -> StateLoss | GilbertElliottLoss | None:
    nest = found.get(nl.TCA_NETEM_LOSS, b"")
    models = nl.attributes(nest, 0, len(nest))
    if nl.NETEM_LOSS_GI in models:
        p13, p31, p32, p14, p23 = _GI.unpack(models[nl.NETEM_LOSS_GI])
        return StateLoss(p13=p13, p31=p31, p32=p32, p23=p23, p14=p14)
    if nl.NETEM_LOSS_GE in models:
        p, r, h, k1 = _GE.unpack(models[nl.NETEM_LOSS_GE])
        return GilbertElliottLoss(p=p, r=r, h=h, k1=k1)
    return None
