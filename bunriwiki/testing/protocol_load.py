"""A load through every protocol, and what its clients saw, to compare it with the metrics."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cache

import aiohttp
import grpc

from bunriwiki.artifacts.manifest import Manifest, TokensInput
from bunriwiki.artifacts.text import TextEncoder
from bunriwiki.protocols.grpc import open_inference_pb2 as pb
from bunriwiki.protocols.grpc.open_inference_pb2_grpc import GRPCInferenceServiceStub
from bunriwiki.testing.calls import Call, mixed_calls
from bunriwiki.testing.paths import MODELS
from bunriwiki.testing.server import Server

BLANK = " "  # the checks reject it
AT_ONCE = 1  # a timeout in microseconds: it passes in the queue or in the call
TEXTS = ("정말 재미있어요", "배송이 늦어서 아주 실망했습니다", "그냥 그래요", "오늘 날씨가 좋네요")
LATE = TEXTS[:1]  # what is sent with that timeout
REASONS = {"400": "invalid_input", "INVALID_ARGUMENT": "invalid_input", "504": "deadline", "DEADLINE_EXCEEDED": "deadline"}
RESTING_SECONDS = 0.05  # after a connection was lost


@dataclass
class Seen:
    """What the clients saw, by model."""

    requests: Counter[str] = field(default_factory=Counter)  # answered
    inputs: Counter[str] = field(default_factory=Counter)  # answered
    tokens: int = 0  # in the answered comments, without padding
    failures: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # by reason
    lost: int = 0  # connections that ended before the answer

    def answered(self, model: str, texts: tuple[str, ...]) -> None:
        self.requests[model] += 1
        self.inputs[model] += len(texts) or 1
        if model == "kcbert":
            self.tokens += tokens(texts)

    def failed(self, model: str, status: int | str, detail: str) -> None:
        reason = REASONS.get(str(status))
        if reason is None:
            assert str(status) in ("503", "UNAVAILABLE"), (status, detail)
            reason = "overloaded" if detail.startswith("More requests") else "runner_lost"
        self.failures[model][reason] += 1


@cache
def _encoder() -> TextEncoder:
    spec = Manifest.read(MODELS / "kcbert").input
    assert isinstance(spec, TokensInput)
    return TextEncoder(MODELS / "kcbert" / "tokenizer.json", spec)


def tokens(texts: tuple[str, ...]) -> int:
    """The tokens that kcbert reads of these texts."""
    return sum(len(encoded.ids) for encoded in _encoder().encode(texts))


class ProtocolLoad:
    """Clients of every protocol, in a thread, as long as the block lasts.

    They send single inputs, several inputs, blank texts, and deadlines that have passed.
    """

    def __init__(self, server: Server, clients: int) -> None:
        self._server = server
        self._clients = clients
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.seen = Seen()

    def __enter__(self) -> Seen:
        self._thread.start()
        return self.seen

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    async def _run(self) -> None:
        clients = (self._native, self._open_inference, self._grpc)
        await asyncio.gather(*(clients[number % len(clients)](number) for number in range(self._clients)))

    async def _native(self, number: int) -> None:
        calls = mixed_calls()
        of_path = {"/yolo/prediction": "yolo", "/kcbert/prediction": "kcbert", "/predict": "sentiment"}
        async with aiohttp.ClientSession(self._server.url) as session:
            for call in itertools.cycle([*calls[number:], *calls[:number]]):
                if self._over.is_set():
                    return
                model = of_path[call.path]
                texts = () if model == "yolo" else (json.loads(call.body)["text"],)
                await self._post(session, call, model, texts)

    async def _open_inference(self, number: int) -> None:
        async with aiohttp.ClientSession(self._server.url) as session:
            for turn in itertools.count(number):
                if self._over.is_set():
                    return
                model = ("kcbert", "sentiment")[turn % 2]
                late = turn % 7 == 0
                texts = LATE if late else TEXTS[: turn % len(TEXTS) + 1] if turn % 5 else (TEXTS[0], BLANK)
                tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
                body = {"inputs": [tensor], "parameters": {"timeout": AT_ONCE} if late else {}}
                call = Call(f"/v2/models/{model}/infer", json.dumps(body).encode(), "application/json")
                await self._post(session, call, model, texts)

    async def _post(self, session: aiohttp.ClientSession, call: Call, model: str, texts: tuple[str, ...]) -> None:
        try:
            async with session.post(call.path, data=call.body, headers={"Content-Type": call.media_type}) as response:
                answer = await response.json(content_type=None)
        except aiohttp.ClientError:
            self.seen.lost += 1
            await asyncio.sleep(RESTING_SECONDS)
            return
        if response.status == 200:
            self.seen.answered(model, texts)
        else:
            self.seen.failed(model, response.status, answer.get("detail") or answer.get("error"))

    async def _grpc(self, number: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self._server.grpc_address, options=options) as channel:
            stub = GRPCInferenceServiceStub(channel)
            for turn in itertools.count(number):
                if self._over.is_set():
                    return
                model = ("kcbert", "sentiment")[turn % 2]
                texts = TEXTS[: turn % len(TEXTS) + 1] if turn % 5 else (BLANK,)
                request = pb.ModelInferRequest(model_name=model)
                tensor = request.inputs.add(name="text", datatype="BYTES", shape=[len(texts)])
                tensor.contents.bytes_contents.extend(text.encode() for text in texts)
                try:
                    await stub.ModelInfer(request)
                except grpc.aio.AioRpcError as error:
                    detail = error.details() or ""
                    if error.code() is grpc.StatusCode.UNAVAILABLE and not detail.startswith(("More", "kcbert", "sentiment")):
                        self.seen.lost += 1
                        await asyncio.sleep(RESTING_SECONDS)
                    else:
                        self.seen.failed(model, error.code().name, detail)
                else:
                    self.seen.answered(model, texts)
