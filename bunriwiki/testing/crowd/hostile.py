"""The hostile members: what each does with a connection, until the server ends it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import cache

from bunriwiki.protocols.inference.tensors import join_bytes
from bunriwiki.testing.crowd.http2 import message
from bunriwiki.testing.crowd.member import Kind, Member, Streams, post, read_answer, send
from bunriwiki.testing.hostile_images import flat_png, many_scans, text_chunks

DRIP_SECONDS = 1.0  # between two pieces of what is sent slowly
STREAMS = 5  # of a gRPC connection: a thousand in all
LARGE = 10 * 2**20  # bytes of a body or a message
BATCH = 128  # images of one call


async def slow_head(member: Member) -> str:
    """Sends a header line a second, and no end."""
    async with member.rest() as streams:
        streams[1].write(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        return await _drip(streams, b"X-More: more\r\n")


async def slow_body(member: Member) -> str:
    """Sends a byte of a small body a second."""
    async with member.rest() as streams:
        streams[1].write(post("/predict", b'{"text": "', length=1000))
        return await _drip(streams, b"a")


async def idle_streams(member: Member) -> str:
    """Opens streams on one gRPC connection, and sends nothing on them."""
    async with member.grpc() as connection:
        for _ in range(STREAMS):
            connection.start("ModelStreamInfer")
        await connection.nothing_left()
        return "ended"


async def cheap_images(member: Member) -> str:
    """Sends photos that cost more than their bytes: many pixels, also many times in one call, much text, and many scans."""
    async with member.rest() as streams:
        return await _at_its_turn(member, streams, lambda turn: _images()[turn % len(_images())])


async def brackets(member: Member) -> str:
    """Sends deeply nested JSON, to where no tensor is expected and to where one is."""
    async with member.rest() as streams:
        return await _at_its_turn(member, streams, lambda turn: _brackets()[turn % len(_brackets())])


async def large_body(member: Member) -> str:
    """Sends all of a large photo but its end."""
    async with member.rest() as streams:
        await send(streams[1], post("/yolo/prediction", bytes(LARGE - 1000), "image/jpeg", length=LARGE))
        return await _drip(streams, b"\0")


async def large_message(member: Member) -> str:
    """Sends all of a large gRPC message but its end."""
    async with member.grpc() as connection:
        await connection.send(connection.start("ModelInfer"), message(bytes(LARGE - 1), LARGE))
        await connection.nothing_left()
        return "ended"


async def late_message(member: Member) -> str:
    """Begins a call, and sends all of a large message but its end a second later, when the call may already read."""
    async with member.grpc() as connection:
        stream = connection.start("ModelInfer")
        await asyncio.sleep(DRIP_SECONDS)
        await connection.send(stream, message(bytes(LARGE - 1), LARGE))
        await connection.nothing_left()
        return "ended"


SMALL: dict[str, Kind] = {
    "slow head": slow_head,
    "slow body": slow_body,
    "idle streams": idle_streams,
    "cheap images": cheap_images,
    "brackets": brackets,
}
WITH_LARGE: dict[str, Kind] = {
    **SMALL,
    "large body": large_body,
    "large message": large_message,
    "late message": late_message,
}


async def _drip(streams: Streams, piece: bytes) -> str:
    """Send a piece after the other until the server answers or closes the connection."""
    reader, writer = streams
    answer = asyncio.ensure_future(reader.readline())
    try:
        while not answer.done() and not writer.is_closing():
            writer.write(piece)
            await asyncio.wait([answer], timeout=DRIP_SECONDS)
        line = answer.result() if answer.done() else b""
    finally:
        answer.cancel()
    return line[9:12].decode() or "closed"


async def _at_its_turn(member: Member, streams: Streams, request: Callable[[int], bytes]) -> str:
    """Send a request whenever one is due, on a connection that is held in between."""
    reader, writer = streams
    while True:
        try:
            async with asyncio.timeout_at(member.due):
                await reader.read(1)
            return "closed while idle"
        except TimeoutError:
            await member.turn()
        whole = await send(writer, request(member.turns))
        status = await read_answer(reader)
        if status == "closed" or not whole:
            return status
        member.counts[status] += 1


@cache
def _images() -> list[bytes]:
    one, text = flat_png(8000, 6250), flat_png(32, 32, before=text_chunks(2**16))
    raw = join_bytes([one] * BATCH)
    tensor = {"name": "image", "datatype": "BYTES", "shape": [BATCH], "parameters": {"binary_data_size": len(raw)}}
    call = json.dumps({"inputs": [tensor]}).encode()
    header = f"Inference-Header-Content-Length: {len(call)}\r\n"
    many = post("/v2/models/yolo/infer", call + raw, "application/octet-stream", more=header)
    single = post("/yolo/prediction", one, "image/png")
    scans = post("/yolo/prediction", many_scans(8000, 6250, 100), "image/jpeg")
    return [single] * 6 + [many, post("/yolo/prediction", text, "image/png"), scans]


@cache
def _brackets() -> list[bytes]:
    return [
        post("/v2/repository/index", b"[" + b"[]," * (LARGE // 3 - 1) + b"[]]"),
        post("/v2/repository/index", b"[" + b"[]," * (2**16 // 3 - 1) + b"[]]"),
        post("/v2/models/sentiment/infer", b'{"inputs": ' + b"[" * 2**20),
        post("/v2/models/sentiment/infer", b'{"parameters": {"a": ' + b"[]," * 2**18 + b"[]}}"),
    ]
