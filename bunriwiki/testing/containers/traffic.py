"""A load of texts and photos over REST, and of texts over gRPC, through the edge."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

from bunriwiki.protocols.grpc.open_inference_pb2_grpc import GRPCInferenceServiceStub
from bunriwiki.testing.calls import Call, text_call
from bunriwiki.testing.load import Outcome, run_load
from bunriwiki.testing.paths import PHOTOS, SAMPLES

TEXTS_PER_PHOTO = 40
TIMEOUT_SECONDS = 90.0


@dataclass
class Traffic:
    """What came of the requests, by protocol. `rest` and `grpc` are complete when the load has ended.

    `clients` is the number of requests that were in flight at any time.
    """

    clients: int
    rest: Outcome = field(default_factory=Outcome)
    grpc: Counter[str] = field(default_factory=Counter)

    @property
    def failures(self) -> Counter[str]:
        """The requests that were not answered with 200 or OK, by what came of them."""
        found = Counter({f"rest {key}": count for key, count in self.rest.counts.items() if key != "200"})
        return found + Counter({f"grpc {key}": count for key, count in self.grpc.items() if key != "OK"})

    @property
    def requests(self) -> int:
        return self.rest.counts.total() + self.grpc.total()

    def summary(self) -> dict[str, object]:
        return {**self.rest.summary(), "grpc": dict(self.grpc)}


def calls() -> list[Call]:
    """Texts for both models, and a photo now and then."""
    lines = (SAMPLES / "texts.txt").read_text(encoding="utf-8").splitlines()
    bodies = [json.dumps({"text": text}).encode() for text in lines]
    texts = [Call(path, body, "application/json") for body in bodies for path in ("/predict", "/kcbert/prediction")]
    photo = Call("/yolo/prediction", (PHOTOS / "can.jpg").read_bytes(), "image/jpeg")
    return [
        call for start in range(0, len(texts), TEXTS_PER_PHOTO) for call in (photo, *texts[start : start + TEXTS_PER_PHOTO])
    ]


@contextmanager
def traffic(url: str, *, rest: int = 12, grpc_clients: int = 4, pause: float = 0.0) -> Iterator[Traffic]:
    """Requests to the edge at `url` as long as the block lasts.

    A client waits `pause` seconds between an answer and its next request.
    """
    found = Traffic(rest + grpc_clients)
    over = threading.Event()

    async def run() -> None:
        address = url.removeprefix("http://")
        load = asyncio.create_task(run_load(url, calls(), clients=rest, seconds=float("inf"), pause=pause, until=over.is_set))
        await asyncio.gather(*(_grpc_client(address, over, found.grpc, pause) for _ in range(grpc_clients)))
        outcome = await load
        found.rest.counts.update(outcome.counts)
        found.rest.latencies.extend(outcome.latencies)
        found.rest.seconds = outcome.seconds

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


async def _grpc_client(address: str, over: threading.Event, counts: Counter[str], pause: float) -> None:
    """Sends calls one after the other over a connection of its own."""
    request = text_call()
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = GRPCInferenceServiceStub(channel)
        while not over.is_set():
            try:
                await stub.ModelInfer(request, timeout=TIMEOUT_SECONDS)
                counts["OK"] += 1
                await asyncio.sleep(pause)
            except grpc.aio.AioRpcError as error:
                counts[error.code().name] += 1
                await asyncio.sleep(0.05)
