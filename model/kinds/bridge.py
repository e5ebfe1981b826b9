"""A Linux bridge (net/bridge)."""

from model.kinds.table import Kind

KIND = Kind("bridge")
