"""This service against a plain FastAPI process with the same models, in turn, in one run.

Both are served from `.venv` on this machine and get the same requests. Times of one machine say little; the ratios say what the
gateway, the batcher and the hop cost, and what they give back under load.

    python -m benchmarks.side_by_side
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from benchmarks.load import Outcome, free_port, mixed_calls, run_load

ROOT = Path(__file__).parent.parent
BIN = ROOT / ".venv" / "bin"
PATHS = ("/predict", "/kcbert/prediction", "/yolo/prediction")
CLIENTS = (1, 16)


def start(
    command: list[str], port: int, probe: str, variables: Mapping[str, str] | None = None
) -> tuple[subprocess.Popen[bytes], str]:
    """The process and its URL, once `probe` answers. `variables` are added to the environment."""
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "BUNRIWIKI_LOG_REQUESTS": "false", **(variables or {})}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            if httpx.get(url + probe).status_code == 200:
                return process, url
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"{command} did not start")


def measure(url: str, path: str, clients: int, seconds: float) -> Outcome:
    calls = [call for call in mixed_calls() if call.path == path]
    outcome = asyncio.run(run_load(url, calls, clients=clients, seconds=seconds))
    if set(outcome.counts) != {"200"}:
        raise SystemExit(f"{url}{path} failed: {dict(outcome.counts)}")
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    given = parser.parse_args()
    ports = free_port(), free_port()
    serve = [str(BIN / "bentoml"), "serve", "--host", "127.0.0.1", "--port", str(ports[0])]
    plain = [str(BIN / "python"), "-m", "benchmarks.baseline", str(ports[1])]
    ours, our_url = start(serve, ports[0], "/readyz")
    theirs, their_url = start(plain, ports[1], "/docs")
    try:
        print("| call | clients | requests/s, ours | FastAPI | ratio | p50 ms, ours | FastAPI |")
        print("|---|---|---|---|---|---|---|")
        for path in PATHS:
            for clients in CLIENTS:
                pairs = [
                    (measure(our_url, path, clients, given.seconds), measure(their_url, path, clients, given.seconds))
                    for _ in range(given.rounds)
                ]
                rates = [tuple(len(one.latencies) / one.seconds for one in pair) for pair in pairs]
                medians = [[1000 * pair[side].percentile(0.5) for pair in pairs] for side in (0, 1)]
                print(
                    f"| `{path}` | {clients} | {statistics.median(a for a, _ in rates):.0f} "
                    f"| {statistics.median(b for _, b in rates):.0f} | {statistics.median(a / b for a, b in rates):.2f} "
                    f"| {statistics.median(medians[0]):.1f} | {statistics.median(medians[1]):.1f} |",
                    flush=True,
                )
    finally:
        for process in (ours, theirs):
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
