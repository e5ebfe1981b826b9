"""A virtual cable: two ends, made and removed together (drivers/net/veth.c)."""

from model.kinds.table import Kind

KIND = Kind("veth", recreate=frozenset({"kind", "peer"}), pair=True)
