"""What a call from the gateway to a runner costs, by transport. The runner does nothing.

- `pickle`: BentoML's proxy as `bentoml.depends()` makes it;
- `json`: the same proxy with JSON bodies;
- `frames`: `bunriwiki/ipc/`.

python -m benchmarks.ipc [--calls 2000]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import socket
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import bentoml
import uvicorn
import uvloop
from _bentoml_impl.client.proxy import RemoteProxy

from bunriwiki.artifacts.answers import Answers, Classification
from bunriwiki.ipc.client import READY, SOCKET, RunnerClient
from bunriwiki.ipc.server import IpcServer

ANSWER = Classification(label="none", score=0.9, details={"none": 0.9, "offensive": 0.07, "hate": 0.03})
SIZES = (1, 16)  # texts in a batch
WARM_UP = 200
START = 2.0  # seconds for uvicorn to start

Call = Callable[[list[str]], Awaitable[Any]]


@bentoml.service(name="noop", metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Noop:
    """Answers every text with the same class."""

    @bentoml.api
    def predict(self, batch: list[str], version: str) -> dict[str, Any]:
        details = {"label": ANSWER.label, "score": ANSWER.score, "details": ANSWER.details, "truncated": False}
        return {"model": "noop", "version": version, "results": [details] * len(batch)}


def runner(folder: Path) -> None:
    """A runner that serves all three transports."""

    def answer(batch: Sequence[str], version: str) -> Answers[Classification]:
        return Answers("noop", version, (ANSWER,) * len(batch))

    frames = socket.socket(socket.AF_UNIX)
    frames.bind(str(folder / f"1{SOCKET}"))
    frames.listen()
    IpcServer("noop", frames, str, answer, 30).start()
    (folder / f"1{READY}").touch()
    over_http = socket.socket(socket.AF_UNIX)
    over_http.bind(str(folder / "http"))
    config = uvicorn.Config(Noop.to_asgi(is_main=False), log_level="error")  # type: ignore[attr-defined]
    uvicorn.Server(config).run(sockets=[over_http])


async def measure(folder: Path, calls: int) -> dict[tuple[str, int], list[float]]:
    """The seconds of each call, by transport and batch size. The transports are measured in turn."""
    client = RunnerClient(folder, Classification)
    Noop.inject_config()  # type: ignore[attr-defined]
    proxies = {
        "pickle": RemoteProxy(f"file://{folder}/http", service=Noop),
        "json": RemoteProxy(f"file://{folder}/http", service=Noop, media_type="application/json"),
    }
    await client.predict(["warm-up"], "v1")
    await asyncio.sleep(START)
    transports: dict[str, Call] = {
        "frames": lambda batch: client.predict(batch, "v1"),
        "json": lambda batch: proxies["json"].to_async.predict(batch, "v1"),
        "pickle": lambda batch: proxies["pickle"].to_async.predict(batch, "v1"),
    }
    found: dict[tuple[str, int], list[float]] = {}
    for size in SIZES:
        batch = ["정말 재미있어요"] * size
        for number in range(WARM_UP + calls):
            for transport, call in transports.items():
                started = time.perf_counter()
                await call(batch)
                if number >= WARM_UP:
                    found.setdefault((transport, size), []).append(time.perf_counter() - started)
    client.close()
    for proxy in proxies.values():
        await proxy.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        process = multiprocessing.get_context("spawn").Process(target=runner, args=(Path(name),), daemon=True)
        process.start()
        found = uvloop.run(measure(Path(name), given.calls))
        process.terminate()
        process.join()
    print("| transport | texts in the batch | p50 ms | p99 ms |")
    print("|---|---|---|---|")
    for (transport, size), seconds in found.items():
        cuts = statistics.quantiles(seconds, n=100)
        print(f"| {transport} | {size} | {1000 * cuts[49]:.2f} | {1000 * cuts[98]:.2f} |")


if __name__ == "__main__":
    main()
