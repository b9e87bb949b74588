"""This service and a plain FastAPI process with the same models, measured in turn, in one run.

Both are served from `.venv` on this machine and get the same requests. Times depend on the machine; the ratios show what the
gateway, the batcher and the inter-process call cost, and what batching gains under load.

    python -m benchmarks.side_by_side
"""

from __future__ import annotations

import argparse
import asyncio
import statistics

from benchmarks.serving import BIN, serving
from bunriwiki.testing.calls import mixed_calls
from bunriwiki.testing.load import Outcome, run_load

PATHS = ("/predict", "/kcbert/prediction", "/yolo/prediction")
CLIENTS = (1, 16)


def measure(url: str, path: str, clients: int, seconds: float) -> Outcome:
    calls = [call for call in mixed_calls() if call.path == path]
    outcome = asyncio.run(run_load(url, calls, clients=clients, seconds=seconds))
    if set(outcome.counts) != {"200"}:
        raise SystemExit(f"requests to {url}{path} failed: {dict(outcome.counts)}")
    return outcome


def row(path: str, clients: int, pairs: list[tuple[Outcome, Outcome]]) -> str:
    """A row of the table: medians over `pairs` of this service's and FastAPI's outcome."""
    rates = [tuple(len(outcome.latencies) / outcome.seconds for outcome in pair) for pair in pairs]
    ours, theirs = (statistics.median(1000 * pair[side].percentile(0.5) for pair in pairs) for side in (0, 1))
    return (
        f"| `{path}` | {clients} | {statistics.median(a for a, _ in rates):.0f} | {statistics.median(b for _, b in rates):.0f} "
        f"| {statistics.median(a / b for a, b in rates):.2f} | {ours:.1f} | {theirs:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    given = parser.parse_args()
    service = [str(BIN / "bentoml"), "serve", "--host", "127.0.0.1", "--port", "{port}"]
    plain = [str(BIN / "python"), "-m", "benchmarks.baseline", "{port}"]
    with serving(service, "/readyz") as ours, serving(plain, "/docs") as theirs:
        print("| call | clients | requests/s, ours | FastAPI | ratio | p50 ms, ours | FastAPI |")
        print("|---|---|---|---|---|---|---|")
        for path in PATHS:
            for clients in CLIENTS:
                pairs = [
                    (measure(ours.url, path, clients, given.seconds), measure(theirs.url, path, clients, given.seconds))
                    for _ in range(given.rounds)
                ]
                print(row(path, clients, pairs), flush=True)


if __name__ == "__main__":
    main()
