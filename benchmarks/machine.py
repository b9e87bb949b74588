"""Whether the machine was quiet: on a busy machine a slow answer tells nothing about the server."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

MAX_FOREIGN = 0.05  # of all cores, used by other processes
MAX_STOLEN = 0.01  # of all cores, used by other virtual machines


@dataclass(frozen=True)
class Ticks:
    """Processor time since the boot, in clock ticks, over all cores."""

    total: int
    busy: int
    stolen: int

    @classmethod
    def parse(cls, stat: str) -> Self:
        """Read from the first line of /proc/stat: user nice system idle iowait irq softirq steal, and guests within user."""
        user, nice, system, idle, waiting, irq, soft, stolen = map(int, stat.splitlines()[0].split()[1:9])
        busy = user + nice + system + irq + soft
        return cls(total=busy + idle + waiting + stolen, busy=busy, stolen=stolen)


@dataclass(frozen=True)
class Noise:
    """What others used, as shares of all cores, and the load average of the last minute, which includes the benchmark."""

    foreign: float
    stolen: float
    load: float

    @property
    def quiet(self) -> bool:
        return self.foreign <= MAX_FOREIGN and self.stolen <= MAX_STOLEN


class NoiseMonitor:
    """Measures the machine from now on. The benchmark is this process with all its descendants."""

    def __init__(self) -> None:
        self._ticks = _ticks()
        self._own = _own_seconds()

    def noise(self) -> Noise:
        """The noise since this monitor was made."""
        ticks = _ticks()
        total = max(1, ticks.total - self._ticks.total)
        own = (_own_seconds() - self._own) * os.sysconf("SC_CLK_TCK")
        foreign = max(0.0, ticks.busy - self._ticks.busy - own) / total
        return Noise(foreign, (ticks.stolen - self._ticks.stolen) / total, os.getloadavg()[0])


def _ticks() -> Ticks:
    return Ticks.parse(Path("/proc/stat").read_text(encoding="ascii"))


def _own_seconds() -> float:
    """The processor time of this process, of its children that have ended, and of its living descendants."""
    times = os.times()
    seconds = times.user + times.system + times.children_user + times.children_system
    for child in psutil.Process().children(recursive=True):
        try:
            spent = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        seconds += spent.user + spent.system + spent.children_user + spent.children_system
    return seconds
