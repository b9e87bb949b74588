"""The honest clients whose answers are counted and timed while a crowd is there, and the crowd's process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import aiohttp
import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from bunriwiki.protocols.grpc.open_inference_pb2_grpc import GRPCInferenceServiceStub
from bunriwiki.testing.calls import mixed_calls, text_call
from bunriwiki.testing.load import Outcome, run_load
from bunriwiki.testing.paths import ROOT
from bunriwiki.testing.server import Server

PAUSE = 0.1  # seconds between an answer and a client's next request
TEXT_CLIENTS = 2
ANSWER_SECONDS = 60.0  # that a client waits for an answer
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

    Half of them keep their connection open, the others open one for each request, as health checks do.
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
    loads |= {("health", False): run_health(server, seconds)}
    outcomes = dict(zip(loads, await asyncio.gather(*loads.values()), strict=True))
    return {name: _sum([one for (of, _), one in outcomes.items() if of == name]) for name in (*rest, "gRPC", "health")}


async def run_grpc(address: str, seconds: float, *, keep: bool) -> Outcome:
    """A client that sends texts over gRPC for so many seconds; unless it keeps its connection, on a new one for each."""
    request = text_call()
    async with contextlib.AsyncExitStack() as stack:
        kept = await stack.enter_async_context(_channel(address)) if keep else None

        async def call() -> str:
            async with contextlib.AsyncExitStack() as own:
                channel = kept or await own.enter_async_context(_channel(address))
                await GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=ANSWER_SECONDS)
            return "200"

        return await _repeat(call, seconds)


async def run_health(server: Server, seconds: float) -> Outcome:
    """Health checks of both protocols in turn, each on a new connection, for so many seconds."""

    async def check() -> str:
        async with _channel(server.grpc_address) as channel:
            health: Any = HealthStub(channel)  # its stubs have no methods
            found = await health.Check(HealthCheckRequest(), timeout=ANSWER_SECONDS)
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with aiohttp.ClientSession(server.health_url, timeout=timeout) as session, session.get("/readyz") as response:
            return str(response.status) if found.status == HealthCheckResponse.SERVING else "not serving"

    return await _repeat(check, seconds)


async def _repeat(call: Callable[[], Awaitable[str]], seconds: float) -> Outcome:
    """What came of a call that is repeated for so many seconds."""
    outcome = Outcome()
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        began = time.perf_counter()
        try:
            outcome.counts[await call()] += 1
            outcome.latencies.append(time.perf_counter() - began)
        except grpc.aio.AioRpcError as error:
            outcome.counts[error.code().name] += 1
        except (aiohttp.ClientError, ConnectionError) as error:
            outcome.counts[type(error).__name__] += 1
        except TimeoutError:
            outcome.counts["timeout"] += 1
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
