"""An interface that drops whatever it sends (drivers/net/dummy.c)."""

from model.kinds.table import Kind

KIND = Kind("dummy")
