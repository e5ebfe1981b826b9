"""Names of Open vSwitch: its files, columns that are looked at, and our marks; no connection.

Types of columns are those of vswitch.ovsschema, described in ovs-vswitchd.conf.db(5). All of them
are there since Open vSwitch 2.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DATABASE = "Open_vSwitch"

RUN = "/var/run/openvswitch"  # the standard OVS_RUNDIR, where ovs-vsctl(8) looks for db.sock
SCHEMA_FILE = "/usr/share/openvswitch/vswitch.ovsschema"
PROGRAMS = ("ovsdb-tool", "ovsdb-server", "ovs-vswitchd")
SBIN = "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin"  # where they are, whatever PATH says

# external_ids of a Bridge and of a Port: the instance that made it.
INSTANCE = "relink-instance"
# external_ids of the one Open_vSwitch row: the instance that started the daemons. Absent from a
# database that somebody else keeps, whose daemons are never stopped.
STARTED = "relink-started"

# What is said of a port that ovs-vswitchd has given neither a number nor an error.
NOT_SET_UP = "ovs-vswitchd has not set it up"

_MAP = {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}
_STRING = {"type": "string"}
_INTEGER = {"type": "integer"}


def _optional(atom: str) -> dict[str, Any]:
    return {"type": {"key": atom, "min": 0, "max": 1}}


def _rows(table: str, least: int = 0) -> dict[str, Any]:
    key = {"type": "uuid", "refTable": table}
    return {"type": {"key": key, "min": least, "max": "unlimited"}}


# The part of the schema that is monitored. Statistics and states that change by themselves are
# not in it, so that whatever arrives is a change that somebody made.
SCHEMA: Mapping[str, Any] = {
    "name": DATABASE,
    "version": "0.0.0",
    "tables": {
        "Open_vSwitch": {
            "isRoot": True,
            "columns": {
                "bridges": _rows("Bridge"),
                "external_ids": _MAP,
                "cur_cfg": _INTEGER,
                "next_cfg": _INTEGER,
            },
        },
        "Bridge": {
            "columns": {
                "name": _STRING,
                "ports": _rows("Port"),
                "datapath_type": _STRING,
                "fail_mode": _optional("string"),
                "mcast_snooping_enable": {"type": "boolean"},
                "other_config": _MAP,
                "external_ids": _MAP,
            },
        },
        "Port": {
            "columns": {
                "name": _STRING,
                "interfaces": _rows("Interface", least=1),
                "external_ids": _MAP,
            },
        },
        "Interface": {
            "columns": {
                "name": _STRING,
                "type": _STRING,
                "error": _optional("string"),
                "ifindex": _optional("integer"),
                "ofport": _optional("integer"),
            },
        },
    },
}
