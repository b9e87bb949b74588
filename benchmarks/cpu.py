"""The gateway's CPU time per request, under the load of `lean.py`.

CPU time is what the kernel accounts to all threads of the gateway (`schedstat`). Other processes make it longer, by sharing
caches and cores, so a comparison has the fastest rounds of each side, which were disturbed least, beside the median of all
pairs.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psutil

from benchmarks.noop_service import noop_service
from benchmarks.serving import Served

CLIENTS = (1, 16)


def compare(what: str, module: str, *, rounds: int, seconds: float) -> float:
    """Print what the no-op service (`noop.py`) costs with and without `what`: `module` is the service without it.

    Both get the same load in turn, for so many pairs of short rounds. Returns the largest difference in microseconds.
    """
    print(f"| clients | with {what}, µs CPU per request | without | difference | median of pairs |\n|---|---|---|---|---|")
    differences = []
    with ExitStack() as stack:
        services = [stack.enter_context(noop_service(f"benchmarks.{name}")) for name in ("noop", module)]
        for clients in CLIENTS:
            pairs = [tuple(cpu_per_request(served, clients, seconds) for served in services) for _ in range(rounds)]
            with_it, without = (min(pair[side] for pair in pairs) for side in (0, 1))
            median = statistics.median(one - other for one, other in pairs)
            differences.append(with_it - without)
            print(f"| {clients} | {with_it:.1f} | {without:.1f} | {differences[-1]:.1f} | {median:.1f} |", flush=True)
    return max(differences)


def gateway(served: Served) -> psutil.Process:
    """The process of the gateway's worker."""
    for child in psutil.Process(served.process.pid).children(recursive=True):
        command = child.cmdline()
        if "_bentoml_impl.worker.service" in command and command[command.index("--service-name") + 1] == "bunriwiki":
            return child
    raise SystemExit("the service has no gateway")


def cpu_per_request(served: Served, clients: int, seconds: float) -> float:
    """Microseconds of the gateway's CPU time per request, under a load of so many clients."""
    worker = gateway(served)
    before = cpu_nanoseconds(worker)
    command = [sys.executable, "-m", "benchmarks.lean", "--port", str(served.port), "--clients", str(clients)]
    result = subprocess.run([*command, "--seconds", str(seconds)], capture_output=True, text=True, check=True)
    load = json.loads(result.stdout)
    if load["failures"]:
        raise SystemExit(f"requests failed: {load['failures']}")
    return (cpu_nanoseconds(worker) - before) / 1000 / int(load["requests"])


def cpu_nanoseconds(process: psutil.Process) -> int:
    """The CPU time of all threads that the process has."""
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)
