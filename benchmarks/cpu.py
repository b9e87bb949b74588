"""CPU time per request, of the gateway and of a runner, under the load of `lean.py`.

CPU time is what the kernel accounts to all threads of a process (`schedstat`). Other processes make it longer, by sharing
caches and cores, so a comparison is the median of many pairs of short rounds.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

import psutil
import uvloop

from benchmarks import lean
from benchmarks.modes import Mode
from benchmarks.resident import role
from benchmarks.serving import Served

CLIENTS = (1, 16)
WARM_UP_SECONDS = 0.05


def worker(served: Served, of: str) -> psutil.Process:
    """The process of the worker with a role (`resident.role`)."""
    for child in psutil.Process(served.process.pid).children(recursive=True):
        if role(child.cmdline()) == of:
            return child
    raise SystemExit(f"the service has no worker of {of}")


def cpu_per_request(served: Served, clients: int, seconds: float) -> tuple[float, float]:
    """Microseconds of CPU time per request, of the gateway and of the runner, under a load of so many clients."""
    workers = [worker(served, of) for of in ("gateway", "kcbert")]
    before = [cpu_nanoseconds(process) for process in workers]
    command = [sys.executable, "-m", "benchmarks.lean", "--port", str(served.port), "--clients", str(clients)]
    result = subprocess.run([*command, "--seconds", str(seconds)], capture_output=True, text=True, check=True)
    load = json.loads(result.stdout)
    if load["failures"]:
        raise SystemExit(f"requests failed: {load['failures']}")
    gateway, runner = (
        (cpu_nanoseconds(process) - began) / 1000 / int(load["requests"])
        for process, began in zip(workers, before, strict=True)
    )
    return gateway, runner


class SwitchedService:
    """The service of `switched.py`. Its modes are measured in slices, by a load from this process: to start another one would
    take longer than a slice.
    """

    def __init__(self, served: Served) -> None:
        self._port = served.port
        self._workers = [worker(served, of) for of in ("gateway", "kcbert")]
        self.switch(Mode.ALL)

    def switch(self, mode: Mode) -> None:
        """Have the service serve in `mode`. There must be no load."""
        for process in self._workers:
            process.send_signal(mode.signal)
        self._load(1, WARM_UP_SECONDS)

    def cpu_per_request(self, mode: Mode, clients: int, seconds: float) -> tuple[float, float]:
        """As `cpu_per_request`, in `mode`."""
        self.switch(mode)
        self._load(clients, WARM_UP_SECONDS)  # the interpreter adapts to the methods
        before = [cpu_nanoseconds(process) for process in self._workers]
        requests = self._load(clients, seconds)
        after = [cpu_nanoseconds(process) for process in self._workers]
        gateway, runner = ((end - began) / 1000 / requests for began, end in zip(before, after, strict=True))
        return gateway, runner

    def _load(self, clients: int, seconds: float) -> int:
        """How many requests were answered."""
        gc.collect()
        gc.disable()
        try:
            load = uvloop.run(lean.run(self._port, clients=clients, seconds=seconds))
        finally:
            gc.enable()
        if load.failures:
            raise SystemExit(f"requests failed: {load.failures}")
        return load.requests


def cpu_nanoseconds(process: psutil.Process) -> int:
    """The CPU time of all threads that the process has."""
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)
