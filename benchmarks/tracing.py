"""What request logs and traces cost: the gateway's CPU time per request with each of them, and with none.

The services with the no-op model (`noop.py`) get the same load in turn, as in `metrics.py`. Spans go to a receiver in this
process; log lines go nowhere.

    python -m benchmarks.tracing
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from benchmarks.cpu import CLIENTS, cpu_per_request
from benchmarks.noop_service import noop_service
from bunriwiki.testing.otlp_receiver import OtlpReceiver

SHARES = ("0.01", "1.0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2)
    given = parser.parse_args()
    print("| clients | off, µs CPU per request | requests logged | traces, 1 % | 100 % |\n|---|---|---|---|---|")
    with ExitStack() as stack:
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": stack.enter_context(OtlpReceiver()).endpoint}
        sampler = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}
        traced = [endpoint | sampler | {"OTEL_TRACES_SAMPLER_ARG": share} for share in SHARES]
        settings = [{}, {"BUNRIWIKI_LOG_REQUESTS": "true"}, *traced]
        services = [stack.enter_context(noop_service(settings=each)) for each in settings]
        for clients in CLIENTS:
            rounds = [[cpu_per_request(served, clients, given.seconds)[0] for served in services] for _ in range(given.rounds)]
            print(
                f"| {clients} | " + " | ".join(f"{min(column):.1f}" for column in zip(*rounds, strict=True)) + " |", flush=True
            )


if __name__ == "__main__":
    main()
