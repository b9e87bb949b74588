"""The honest clients whose answers are counted and timed while a crowd is there, and the crowd's process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import grpc

from bunriwiki.protocols.grpc.open_inference_pb2_grpc import GRPCInferenceServiceStub
from bunriwiki.testing.calls import mixed_calls
from bunriwiki.testing.crowd.honest import text_request
from bunriwiki.testing.load import Outcome, run_load
from bunriwiki.testing.paths import ROOT
from bunriwiki.testing.server import Server

PAUSE = 0.1  # seconds between an answer and a client's next request
TEXT_CLIENTS = 2
GRPC_SECONDS = 60.0  # that a client waits for an answer
END_SECONDS = 60.0  # in which a crowd has to end once its time is over
PHOTOS = "/yolo/prediction"


class Crowd:
    """A crowd of a kind, in a process of its own, that stays for so many seconds."""

    def __init__(self, server: Server, kind: str, *, members: int, seconds: float, sources: Sequence[str]) -> None:
        command = [sys.executable, "-m", "bunriwiki.testing.crowd", "--kind", kind, "--members", str(members)]
        command += ["--rest", str(server.port), "--grpc", str(server.grpc_port), "--seconds", str(seconds)]
        self._process = subprocess.Popen([*command, "--sources", *sources], cwd=ROOT, stdout=subprocess.PIPE)

    def counts(self) -> dict[str, dict[str, int]]:
        """By kind of member, what came of its connections and requests; once its time is over."""
        output, _ = self._process.communicate(timeout=END_SECONDS)
        if self._process.returncode:
            raise RuntimeError("the crowd's process failed")
        return dict(json.loads(output))

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()


@contextlib.contextmanager
def crowd(server: Server, kind: str, *, members: int, seconds: float, sources: Sequence[str]) -> Iterator[Crowd]:
    """A crowd of a kind (see `Crowd`) that ends with the block at the latest."""
    found = Crowd(server, kind, members=members, seconds=seconds, sources=sources)
    try:
        yield found
    finally:
        found.end()


async def run_honest(server: Server, seconds: float) -> dict[str, Outcome]:
    """Honest clients for so many seconds: by kind, what came of their requests.

    Half of them keep their connection open, the others open one for each request.
    """
    texts = [call for call in mixed_calls() if call.path != PHOTOS]
    photos = [call for call in mixed_calls() if call.path == PHOTOS]
    rest = {"texts": (texts, TEXT_CLIENTS), "photos": (photos, 1)}
    loads = {
        (name, keep): run_load(server.url, calls, clients=clients, seconds=seconds, pause=PAUSE, keep_alive=keep)
        for name, (calls, clients) in rest.items()
        for keep in (True, False)
    }
    loads |= {("gRPC", keep): run_grpc(server.grpc_address, seconds, keep=keep) for keep in (True, False)}
    outcomes = dict(zip(loads, await asyncio.gather(*loads.values()), strict=True))
    return {name: _sum([outcomes[name, True], outcomes[name, False]]) for name in (*rest, "gRPC")}


async def run_grpc(address: str, seconds: float, *, keep: bool) -> Outcome:
    """A client that sends texts over gRPC for so many seconds; unless it keeps its connection, on a new one for each."""
    outcome = Outcome()
    started = time.perf_counter()
    request = text_request()
    async with contextlib.AsyncExitStack() as stack:
        kept = await stack.enter_async_context(_channel(address)) if keep else None
        while time.perf_counter() - started < seconds:
            began = time.perf_counter()
            async with contextlib.AsyncExitStack() as own:
                channel = kept or await own.enter_async_context(_channel(address))
                try:
                    await GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=GRPC_SECONDS)
                except grpc.aio.AioRpcError as error:
                    outcome.counts[error.code().name] += 1
                else:
                    outcome.counts["200"] += 1
                    outcome.latencies.append(time.perf_counter() - began)
            await asyncio.sleep(PAUSE)
    outcome.seconds = time.perf_counter() - started
    return outcome


def _channel(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])


def _sum(outcomes: Sequence[Outcome]) -> Outcome:
    whole = Outcome()
    for outcome in outcomes:
        whole.counts.update(outcome.counts)
        whole.latencies.extend(outcome.latencies)
        whole.seconds = max(whole.seconds, outcome.seconds)
    return whole
