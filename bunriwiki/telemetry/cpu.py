"""How long a program ran on a CPU core, and how long it waited for one.

How long an answer takes depends on what else runs on the machine; how long it takes without the waiting does not, or hardly.
Linux counts the waiting per thread, as the second number of `schedstat` in /proc (the kernel's
Documentation/scheduler/sched-stats.rst). Where the kernel does not count it, it is 0.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

NANOSECONDS = 1e-9
CPUCLOCK_SCHED = 2  # a process' CPU time, in the low bits of a clock id (the kernel's include/linux/posix-timers.h)


@dataclass(frozen=True, slots=True)
class CpuTime:
    """Seconds: `ran`, of all threads of a process, on any core; `waited`, of its main thread, for a core."""

    ran: float = 0.0
    waited: float = 0.0

    @classmethod
    def of(cls, pid: int) -> Self:
        """Those of the process `pid` since its start; zero if it has ended. The kernel counts them, not the process."""
        try:
            ran = time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED)
            return cls(ran, _waited(Path(f"/proc/{pid}/schedstat").read_bytes()))
        except OSError:
            return cls()

    def since(self, before: CpuTime) -> CpuTime:
        """What was added since `before`."""
        return CpuTime(self.ran - before.ran, self.waited - before.waited)


class _ThreadSchedstat:
    """The `schedstat` of the thread that creates it; kept open, because that makes reading it seven times as fast."""

    def __init__(self) -> None:
        try:
            self._descriptor = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._descriptor = -1

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def read(self) -> bytes:
        return os.pread(self._descriptor, 64, 0) if self._descriptor >= 0 else b""


_thread = threading.local()


def waited_seconds() -> float:
    """Seconds that the calling thread has waited for a core since its start. Costs a microsecond."""
    schedstat: _ThreadSchedstat | None = getattr(_thread, "schedstat", None)
    if schedstat is None:
        schedstat = _thread.schedstat = _ThreadSchedstat()
    return _waited(schedstat.read())


def _waited(schedstat: bytes) -> float:
    fields = schedstat.split()
    return int(fields[1]) * NANOSECONDS if len(fields) > 1 else 0.0
