"""The load of the proofs, to be run by hand.

python -m benchmarks.load --url http://127.0.0.1:3000 --clients 64 --seconds 60
"""

from __future__ import annotations

import argparse
import asyncio
import json

from bunriwiki.testing.calls import mixed_calls
from bunriwiki.testing.load import run_load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:3000")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", default="", help="only the calls of this path")
    given = parser.parse_args()
    calls = [call for call in mixed_calls() if given.only in ("", call.path)]
    outcome = asyncio.run(run_load(given.url, calls, clients=given.clients, seconds=given.seconds))
    print(json.dumps(outcome.summary(), indent=2))


if __name__ == "__main__":
    main()
