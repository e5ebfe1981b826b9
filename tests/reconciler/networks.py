"""Networks of any size, to be looked at: `python -m tests.reconciler.networks 60 > net.svg`."""

from __future__ import annotations

import json
import sys
from typing import Any

from model.declared import Config
from model.graph import declared
from reconciler.drawing import as_svg
from reconciler.sources import load_shown


def network(containers: int) -> Config:
    """Return switches of up to twelve containers, joined by a router; with something of each kind.

    From ten containers on there is a tunnel, a link of the host, and a patch.
    """
    links: list[dict[str, Any]] = []
    hosts = containers - 1
    for n in range(hosts):
        switch, host = divmod(n, 12 if hosts > 24 else 3)
        name = f"lan{switch}"
        if not host:
            ip = f"10.{switch}.0.1/24"
            links.append({"service": "core", "bridge": name, "dev": f"e{switch}", "ip": ip})
        link: dict[str, Any] = {"service": f"h{switch}-{host}", "bridge": name}
        link["ip"] = [f"10.{switch}.0.{host + 10}/24"]
        if n % 5 == 1:
            link["netem"] = "delay 40ms 5ms loss 1%"
        if n % 7 == 2:
            link["ip"].append(f"fd00:{switch}::{host + 10}/64")
            link |= {"mtu": 1400, "forward": f"{8000 + n}:80/tcp"}
        links.append(link)
    document: dict[str, Any] = {"links": links}
    if containers >= 10:
        links += [
            {"service": "h0-1", "type": "vlan", "vlanid": 7, "outer-dev": "enp6s0", "dev": "up",
             "ip": "198.51.100.3/24"},
            {"service": "h0-0", "bridge": "wire", "dev": "x0"},
            {"service": "h1-0", "bridge": "wire", "dev": "x0"},
        ]  # fmt: skip
        document["bridges"] = [{"bridge": "wire", "mode": "patch"}]
        remote = {"type": "geneve", "vni": 1001, "remote": "203.0.113.9", "bridge": "lan1"}
        document["tunnels"] = [remote]
    return load_shown(json.dumps(document), "network.json")


if __name__ == "__main__":
    print(as_svg(declared(network(int(sys.argv[1])))), end="")
