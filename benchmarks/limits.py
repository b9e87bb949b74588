"""What all limits for a hostile network cost: the gateway's CPU time per request with them, and without any.

The service with the no-op model (`noop.py`) and the same without limits (`unlimited.py`) get the same load in turn, for
`--rounds` pairs of short rounds (`cpu.py`).

    python -m benchmarks.limits
"""

from __future__ import annotations

import argparse
import statistics
import sys
from contextlib import ExitStack

from benchmarks.cpu import CLIENTS, cpu_per_request
from benchmarks.noop_service import noop_service


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--most", type=float, default=10, help="exit with 1 if the limits cost more microseconds per request")
    given = parser.parse_args()
    print("| clients | with limits, µs CPU per request | without | difference | median of pairs |\n|---|---|---|---|---|")
    too_much = False
    with ExitStack() as stack:
        services = [stack.enter_context(noop_service(f"benchmarks.{name}")) for name in ("noop", "unlimited")]
        for clients in CLIENTS:
            pairs = [
                tuple(cpu_per_request(served, clients, given.seconds)[0] for served in services) for _ in range(given.rounds)
            ]
            limited, unlimited = (min(pair[side] for pair in pairs) for side in (0, 1))
            median = statistics.median(one - other for one, other in pairs)
            print(f"| {clients} | {limited:.1f} | {unlimited:.1f} | {limited - unlimited:.1f} | {median:.1f} |", flush=True)
            too_much |= limited - unlimited > given.most
    sys.exit(too_much)


if __name__ == "__main__":
    main()
