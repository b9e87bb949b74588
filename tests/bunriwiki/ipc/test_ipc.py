"""Client and server of inter-process calls, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from bunriwiki.artifacts.answers import Answers, Classification, Failure
from bunriwiki.ipc import client as client_module
from bunriwiki.ipc.client import ConnectionLostError, RunnerClient
from bunriwiki.ipc.frames import LENGTH, BatchError, batch_frame, receive
from bunriwiki.ipc.server import BatchTurn, IpcServer
from bunriwiki.ipc.trace import TraceContext, current_trace
from bunriwiki.testing.waiting import wait_until

pytestmark = pytest.mark.anyio

Answer = Callable[[Sequence[str], str], Answers[Classification]]


def classified(text: str) -> Classification:
    return Classification(label=text, score=1.0, details={text: 1.0})


def echo(texts: Sequence[str], version: str) -> Answers[Classification]:
    return Answers("kcbert", version, tuple(classified(text) for text in texts))


class Worker:
    """A worker of a runner, as the gateway finds it."""

    def __init__(self, folder: Path, name: str, answer: Answer, deadline: float = 5) -> None:
        self.path = folder / f"{name}.sock"
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(self.path))
        listening.listen()
        self.server = IpcServer("kcbert", listening, str, answer, deadline)
        self.server.start()
        self.path.with_suffix(".ready").touch()

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5)
        try:
            connection.connect(str(self.path))
        except OSError:
            connection.close()
            raise
        return connection


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def starter(answer: Answer = echo, name: str | None = None, deadline: float = 5) -> Worker:
        workers.append(Worker(tmp_path, name or str(len(workers)), answer, deadline))
        return workers[-1]

    yield starter
    for worker in workers:
        with contextlib.suppress(OSError):
            worker.server.close(0)


@pytest.fixture
async def client(tmp_path: Path) -> Iterator[RunnerClient[Classification]]:  # type: ignore[misc]
    client = RunnerClient(tmp_path, Classification)
    yield client
    client.close()
    await asyncio.sleep(0)


async def test_batches_are_answered(start: Callable[..., Worker], client: RunnerClient[Classification]) -> None:
    start()
    assert await client.is_ready()
    for texts in (["가"], ["나", "다"], ["라" * 100_000]):
        assert await client.predict(texts, "v1") == echo(texts, "v1")


async def test_an_input_that_fails_has_its_failure(start: Callable[..., Worker], client: RunnerClient[Classification]) -> None:
    failure = Failure(kind="internal", message="It was logged.")
    start(lambda texts, version: Answers("kcbert", version, (failure, classified(texts[1]))))
    assert (await client.predict(["가", "나"], "v1")).results == (failure, classified("나"))


async def test_a_batch_that_fails_does_not_affect_others(
    start: Callable[..., Worker], client: RunnerClient[Classification]
) -> None:
    def answer(texts: Sequence[str], version: str) -> Answers[Classification]:
        if version == "bad":
            raise ValueError("no such feature")
        return echo(texts, version)

    start(answer)
    with pytest.raises(BatchError, match="ValueError: no such feature"):
        await client.predict(["가"], "bad")
    assert await client.predict(["가"], "v1") == echo(["가"], "v1")


async def test_the_least_busy_worker_gets_the_batch(start: Callable[..., Worker], client: RunnerClient[Classification]) -> None:
    release = threading.Event()

    def waiting(name: str) -> Answer:
        def answer(texts: Sequence[str], version: str) -> Answers[Classification]:
            release.wait(5)
            return Answers("kcbert", name, (classified("가"),))

        return answer

    for name in ("a", "b", "c"):
        start(waiting(name))
    calls = [asyncio.create_task(client.predict(["가"], "v1")) for _ in range(6)]
    await asyncio.sleep(0.1)
    release.set()
    assert sorted(answers.version for answers in await asyncio.gather(*calls)) == ["a", "a", "b", "b", "c", "c"]


async def test_one_batch_at_a_time(start: Callable[..., Worker], client: RunnerClient[Classification]) -> None:
    running, overlapping = threading.Lock(), False

    def answer(texts: Sequence[str], version: str) -> Answers[Classification]:
        nonlocal overlapping
        if not running.acquire(blocking=False):
            overlapping = True
            return echo(texts, version)
        time.sleep(0.02)  # another batch would be answered meanwhile
        running.release()
        return echo(texts, version)

    start(answer)
    await asyncio.gather(*(client.predict(["가"], "v1") for _ in range(8)))
    assert not overlapping


async def test_a_batch_waits_for_a_worker(start: Callable[..., Worker], client: RunnerClient[Classification]) -> None:
    assert not await client.is_ready()
    waiting = asyncio.create_task(client.predict(["가"], "v1"))
    await asyncio.sleep(0.1)
    start()
    assert (await asyncio.wait_for(waiting, 30)).version == "v1"


async def test_a_batch_in_a_worker_that_dies_is_lost(
    start: Callable[..., Worker], client: RunnerClient[Classification]
) -> None:
    begun, release = threading.Event(), threading.Event()

    def answer(texts: Sequence[str], version: str) -> Answers[Classification]:
        begun.set()
        release.wait(5)
        return echo(texts, version)

    worker = start(answer)
    waiting = asyncio.create_task(client.predict(["가"], "v1"))
    await asyncio.to_thread(begun.wait, 5)
    for connection in list(worker.server._connections):
        connection.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ConnectionLostError):
        await waiting
    release.set()


async def test_a_dying_worker_that_still_listens_is_avoided(
    tmp_path: Path, start: Callable[..., Worker], client: RunnerClient[Classification]
) -> None:
    """The kernel closes the sockets of a killed process one by one: its connections may go before its listening socket."""
    with socket.socket(socket.AF_UNIX) as dying:
        dying.bind(str(tmp_path / "0.sock"))
        dying.listen()
        (tmp_path / "0.ready").touch()
        waiting = asyncio.create_task(client.predict(["가"], "v1"))
        connection, _ = await asyncio.to_thread(dying.accept)
        connection.close()
        with pytest.raises(ConnectionLostError):
            await waiting
        again = asyncio.create_task(client.predict(["가"], "v1"))
        await asyncio.sleep(0.05)
        assert not again.done()
        start(name="1")
        assert (await asyncio.wait_for(again, 30)).version == "v1"


async def test_the_socket_of_a_dead_worker_is_skipped(
    tmp_path: Path, start: Callable[..., Worker], client: RunnerClient[Classification]
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "0.sock"))  # without listening
        (tmp_path / "0.ready").touch()
    start(name="1")
    for _ in range(5):
        assert (await asyncio.wait_for(client.predict(["가"], "v1"), 30)).version == "v1"
    assert await client.is_ready()


async def test_a_worker_that_ends_answers_its_batch_and_gets_no_more(
    start: Callable[..., Worker], client: RunnerClient[Classification], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "RESCAN", 0.0)
    begun, release = threading.Event(), threading.Event()

    def slow(texts: Sequence[str], version: str) -> Answers[Classification]:
        begun.set()
        release.wait(5)
        return Answers("kcbert", "old", (classified("가"),))

    old = start(slow)
    waiting = asyncio.create_task(client.predict(["가"], "v1"))
    await asyncio.to_thread(begun.wait, 5)
    old.path.with_suffix(".ready").unlink()
    closing = asyncio.create_task(asyncio.to_thread(old.server.close, 5))
    start()
    assert (await client.predict(["나"], "v1")).version == "v1"
    release.set()
    assert (await waiting).version == "old"
    await closing


async def test_a_cancelled_batch_does_not_delay_others(
    start: Callable[..., Worker], client: RunnerClient[Classification]
) -> None:
    release = threading.Event()

    def answer(texts: Sequence[str], version: str) -> Answers[Classification]:
        if version == "stuck":
            release.wait(60)
        return echo(texts, version)

    start(answer, deadline=0.2)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.predict(["가"], "stuck")
    assert (await asyncio.wait_for(client.predict(["가"], "v1"), 30)).version == "v1"
    release.set()


async def test_readiness_does_not_wait_for_a_stuck_worker(
    tmp_path: Path, start: Callable[..., Worker], client: RunnerClient[Classification]
) -> None:
    with socket.socket(socket.AF_UNIX) as stuck:
        stuck.bind(str(tmp_path / "0.sock"))
        stuck.listen()  # and never accepts
        (tmp_path / "0.ready").touch()
        start(name="1")
        assert await asyncio.wait_for(client.is_ready(), 30)


@pytest.mark.parametrize("sent", [b"POST /predict HTTP/1.1\r\n\r\n", LENGTH.pack(3) + b"\x80\x04.", LENGTH.pack(2**31)])
async def test_a_connection_that_sends_anything_else_is_closed(start: Callable[..., Worker], sent: bytes) -> None:
    worker = start()
    with worker.connect() as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    with worker.connect() as connection:
        connection.sendall(batch_frame("v1", ["가"]))
        assert receive(connection)


def test_a_server_closes_its_connections(start: Callable[..., Worker]) -> None:
    worker = start()
    connections = [worker.connect() for _ in range(3)]
    for connection in connections:
        connection.sendall(batch_frame("v1", ["가"]))
        assert receive(connection)
    worker.server.close(5)
    for connection in connections:
        assert receive(connection) is None
        connection.close()
    with pytest.raises(ConnectionRefusedError):
        worker.connect()


def test_closed_connections_leave_no_descriptors(start: Callable[..., Worker]) -> None:
    worker = start()

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    with worker.connect() as connection:
        connection.sendall(batch_frame("v1", ["가"]))
        assert receive(connection)
    before = descriptors()
    for _ in range(50):
        with worker.connect() as connection:
            connection.sendall(batch_frame("v1", ["가"]))
            assert receive(connection)
    wait_until(lambda: descriptors() <= before)


def test_a_turn_ends_at_the_deadline() -> None:
    turn = BatchTurn(0.05)
    taken, stuck = threading.Event(), threading.Event()

    def hold() -> None:
        with turn.taken():
            taken.set()
            stuck.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert taken.wait(5)
    with turn.taken():
        stuck.set()
        holder.join()  # the end of the turn that took too long does not end this turn
        assert turn._until is not None
    assert turn._until is None


async def test_a_batch_takes_its_place_in_a_trace_along(
    start: Callable[..., Worker], client: RunnerClient[Classification]
) -> None:
    seen: list[TraceContext | None] = []

    def answer(texts: Sequence[str], version: str) -> Answers[Classification]:
        seen.append(current_trace.get())
        return echo(texts, version)

    start(answer)
    traces = [TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", sampled=True), None]
    ran = []
    for trace in traces:
        current_trace.set(trace)
        began = time.time_ns()
        ran.append((await client.predict(["가"], "v1")).ran)
    assert seen == traces
    assert ran[1] is None
    assert ran[0] is not None
    assert ran[0].process == os.getpid()
    assert ran[0].began_ns <= ran[0].ended_ns < began
