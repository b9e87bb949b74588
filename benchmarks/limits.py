"""What all limits for a hostile network cost: the gateway's CPU time per request with them, and without any.

The service with the no-op model (`noop.py`) and the same without limits (`unlimited.py`) get the same load in turn, for
`--rounds` pairs of short rounds (`cpu.py`).

    python -m benchmarks.limits
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.cpu import compare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--most", type=float, default=10, help="exit with 1 if the limits cost more microseconds per request")
    given = parser.parse_args()
    sys.exit(compare("limits", "unlimited", rounds=given.rounds, seconds=given.seconds) > given.most)


if __name__ == "__main__":
    main()
