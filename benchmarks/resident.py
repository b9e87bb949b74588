"""The resident memory of a server's processes, by role."""

from __future__ import annotations

from collections.abc import Sequence

import psutil

GATEWAY_SERVICE = "bunriwiki"  # the service name in the command line of the gateway's process


def role(command: Sequence[str]) -> str:
    """The role of a BentoML worker, from its command line: `gateway`, the model of a runner, or `other`."""
    if "--service-name" not in command[:-1]:
        return "other"
    name = command[command.index("--service-name") + 1]
    return "gateway" if name == GATEWAY_SERVICE else name


def resident(parent: int) -> dict[str, float]:
    """MB by role, for the process `parent` and its descendants, with their `sum`."""
    found = {"parent": _megabytes(psutil.Process(parent))}
    for process in psutil.Process(parent).children(recursive=True):
        name = role(process.cmdline())
        found[name] = found.get(name, 0) + _megabytes(process)
    return {**found, "sum": sum(found.values())}


def _megabytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 2**20
