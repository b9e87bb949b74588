"""Attacks of anybody on the network with connections and unfinished requests, against the real service.

The service may have no more than 1,024 files open, the usual limit. Meanwhile, honest clients of the same address are served.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
import httpx
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bunriwiki.protocols.grpc.open_inference_pb2_grpc import GRPCInferenceServiceStub
from bunriwiki.testing.calls import text_call
from bunriwiki.testing.http2 import Http2Client
from bunriwiki.testing.paths import SERVE_ENV
from bunriwiki.testing.server import Server
from bunriwiki.testing.waiting import wait_until

MB = 2**20
FILES = 1024
HALF_OPEN = 1500
UNFINISHED = 70
HONEST_SECONDS = 3.0  # for an answer, beside other tests; before there were limits, a head of 100 MB stopped everybody for 12 s
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
TEXT = {"text": "정말 재미있어요"}


@pytest.fixture(scope="module", autouse=True)
def many_files() -> Iterator[None]:
    """The attacker may open more files than the service."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    command = ["sh", "-c", f"ulimit -n {FILES}; exec {SERVE_ENV / 'bin' / 'bentoml'} serve ."]
    started = Server(tmp_path_factory.mktemp("hostile") / "log", grpc=True, command=command)
    try:
        started.wait_until_ready()
        predict(started)  # the first one loads what later ones need
        yield started
    finally:
        started.stop()


def gateway(server: Server) -> psutil.Process:
    return server.workers()["bunriwiki"]


def predict(server: Server) -> None:
    assert httpx.post(f"{server.url}/predict", json=TEXT, timeout=20).status_code == 200


def infer(server: Server) -> None:
    options = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own
    with grpc.insecure_channel(server.grpc_address, options) as channel:
        assert GRPCInferenceServiceStub(channel).ModelInfer(text_call(), timeout=20).model_name == "sentiment"
        checked = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)  # type: ignore[attr-defined]
        assert checked.status == health_pb2.HealthCheckResponse.SERVING


def check_health(server: Server) -> None:
    assert httpx.get(f"{server.health_url}/readyz", timeout=20).status_code == 200


@dataclass
class Honest:
    """What honest clients saw. Each request has a connection of its own."""

    requests: int = 0
    slowest: float = 0.0


@contextlib.contextmanager
def honest_clients(server: Server, *requests: Callable[[Server], None]) -> Iterator[Honest]:
    """Honest clients send each of `requests`, one after the other, until the end of the `with`; none may fail."""
    found, ended = Honest(), threading.Event()

    def send(request: Callable[[Server], None]) -> None:
        while not ended.wait(0.05):
            began = time.monotonic()
            request(server)
            found.requests += 1
            found.slowest = max(found.slowest, time.monotonic() - began)

    with ThreadPoolExecutor() as pool:
        sending = [pool.submit(send, request) for request in requests]
        try:
            yield found
        finally:
            ended.set()
        for each in sending:
            each.result()
    print(f"{found.requests} honest requests, the slowest took {found.slowest:.2f} s")


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def status_of(client: socket.socket) -> int:
    """The status of the answer that the server sends; 0 if it closes the connection without one."""
    try:
        answer = client.recv(1000)
    except ConnectionError:
        return 0
    return int(answer.split()[1]) if answer else 0


def test_a_head_of_100_mb_is_rejected_and_nobody_waits_for_it(server: Server) -> None:
    with honest_clients(server, predict) as found, connect(server.port) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        with contextlib.suppress(ConnectionError):  # the rest is not read to its end
            for _ in range(100):
                client.sendall(b"a" * MB)
        assert status_of(client) in (431, 0)
        time.sleep(0.5)
    assert found.slowest < HONEST_SECONDS
    with connect(server.port) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000)
        assert status_of(client) == 431


def test_slow_heads_are_answered_408(server: Server) -> None:
    began = time.monotonic()
    clients = [connect(server.port) for _ in range(50)]
    for client in clients:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
    with honest_clients(server, predict):
        for _ in range(8):
            for client in clients:
                client.sendall(b"a")  # of a header
            time.sleep(1)
    with ThreadPoolExecutor(50) as pool:
        assert set(pool.map(status_of, clients)) == {408}
    assert 9 < time.monotonic() - began < 20
    for client in clients:
        client.close()


def test_half_open_connections_keep_nobody_out(server: Server) -> None:
    clients = []
    with honest_clients(server, predict, check_health) as found:
        for _ in range(HALF_OPEN):
            client = connect(server.port)
            with contextlib.suppress(ConnectionError):
                client.sendall(b"GET / HTTP/1.1\r\n")
            clients.append(client)
        open_files = gateway(server).num_fds()
        time.sleep(1)
    print(f"{open_files} files open of {FILES}")
    assert open_files < 0.75 * FILES
    assert found.requests > 3  # in a second, beside other tests
    for client in clients:
        client.close()
    assert server.model("sentiment")  # it can read its own files


@pytest.mark.parametrize("connections", [1, 9], ids=["one connection", "nine connections"])
def test_idle_streams_keep_nobody_out(server: Server, connections: int) -> None:
    hostile = [Http2Client(server.grpc_port) for _ in range(connections)]
    for client in hostile:
        for _ in range(1024 if connections == 1 else 128):
            client.open_call(STREAM)
    time.sleep(0.5)
    with honest_clients(server, infer, check_health) as found:
        time.sleep(1)
    assert found.requests
    for client in hostile:
        client.close()


def test_unfinished_messages_take_no_more_than_their_client_may_have(server: Server) -> None:
    process = gateway(server)
    before = peak = process.memory_info().rss
    hostile = [Http2Client(server.grpc_port) for _ in range(7)]
    sent: list[int] = []

    def send(number: int) -> None:
        client = hostile[number % len(hostile)]
        sent.append(client.send(client.open_call(INFER, announced=10 * MB), b"a" * (10 * MB - 1), seconds=2))

    attacks = [threading.Thread(target=send, args=(number,)) for number in range(UNFINISHED)]
    with honest_clients(server, infer, predict):
        for attack in attacks:
            attack.start()
        while any(attack.is_alive() for attack in attacks):
            peak = max(peak, process.memory_info().rss)
            time.sleep(0.02)
    print(f"sent {sum(sent) // MB} MB; resident memory grew from {before // MB} to {peak // MB} MB")
    # At most half of the 192 MB for large bodies, and what arrives before it is counted: 37 MB, more beside other tests, which
    # keep the gateway from counting. Before there were limits, all of it: 708 MB.
    assert peak - before < 250 * MB
    for client in hostile:
        client.close()
    wait_until(lambda: server.metric("bunriwiki_requests_in_flight", protocol="grpc") == 0)
