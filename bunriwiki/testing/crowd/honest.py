"""The honest members: a request every forty seconds each, on a connection that is kept as long as the server lets it."""

from __future__ import annotations

from collections.abc import Callable

from bunriwiki.testing.calls import Call, mixed_calls, text_call
from bunriwiki.testing.crowd.http2 import message
from bunriwiki.testing.crowd.member import EVERY_SECONDS, Kind, Member, post, read_answer, send


def rest(wanted: Callable[[Call], bool]) -> Kind:
    """Sends those of the calls of the test data that are wanted."""
    requests = [post(call.path, call.body, call.media_type) for call in mixed_calls() if wanted(call)]

    async def member_of_kind(member: Member) -> str:
        await member.turn()
        async with member.rest() as (reader, writer):
            while True:
                await send(writer, requests[member.turns % len(requests)])
                status = await read_answer(reader)
                if status != "200":
                    return status
                member.counts[status] += 1
                await member.turn()
                if reader.at_eof():
                    member.due -= EVERY_SECONDS  # at once, on a new connection
                    return "closed while idle"

    return member_of_kind


async def grpc_texts(member: Member) -> str:
    """Sends a text over gRPC."""
    request = text_call().SerializeToString()
    await member.turn()
    async with member.grpc() as connection:
        while True:
            stream = connection.start("ModelInfer")
            await connection.send(stream, message(request), last=True)
            if not await connection.answered(stream):
                return "failed"
            member.counts["OK"] += 1
            await member.turn()


def kinds() -> dict[str, Kind]:
    """Of five members, three send texts, one photos, and one texts over gRPC."""
    texts, photos = rest(lambda call: call.path != "/yolo/prediction"), rest(lambda call: call.path == "/yolo/prediction")
    return {"comments": texts, "reviews": texts, "more comments": texts, "photos": photos, "gRPC": grpc_texts}
