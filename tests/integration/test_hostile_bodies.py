"""Bodies that cost more than they should: attacks on the service that succeeded once (docs/threat-model.md)."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from bunriwiki.testing.hostile_bodies import INPUT, MB, repeated
from bunriwiki.testing.server import Server
from bunriwiki.testing.waiting import wait_until
from tests.bunriwiki.protocols.grpc.hostile import field

GRACE_SECONDS = 4
CPU_SECONDS = 0.25  # of the gateway for a body, however hostile; it was 1.2 s
SLACK = 24 * MB  # what the allocator, the kernel's buffers and the libraries take, however large the body is
NESTED = b"[" * 100 + b"]" * 100 + b","
TEXT = {"text": "정말 재미있어요"}


@pytest.fixture(scope="module")
def service(start: Callable[..., Server]) -> Server:
    found = start(grpc=True, environment={"BUNRIWIKI_BODY_GRACE_SECONDS": str(GRACE_SECONDS)})
    warm_up(found)
    return found


def warm_up(service: Server) -> None:
    """Send requests, so that later ones load and allocate nothing for the first time."""
    with httpx.Client(base_url=service.url, timeout=30) as client:
        for _ in range(20):
            assert client.post("/predict", json=TEXT).status_code == 200
            client.post("/yolo/prediction", content=bytes(10 * MB), headers={"Content-Type": "image/jpeg"})


class Gateway:
    """What the gateway's worker used since this object was made."""

    def __init__(self, service: Server) -> None:
        self._process = service.workers()["bunriwiki"]
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")  # its peak begins anew
        self._rss = self._status("VmRSS")
        self._cpu = self._cpu_seconds()

    def peak_bytes(self) -> int:
        return self._status("VmHWM") - self._rss

    def cpu_seconds(self) -> float:
        return self._cpu_seconds() - self._cpu

    def _status(self, name: str) -> int:
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024

    def _cpu_seconds(self) -> float:
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)


@pytest.mark.parametrize("unit", [b"[],", NESTED], ids=["brackets", "nested"])
@pytest.mark.parametrize(
    ("path", "size", "before", "after", "status"),
    [
        ("/v2/repository/index", 10 * MB, b'{"a":[', b"0]}", 413),
        ("/v2/models/yolo/infer", 4 * MB - 100, b'{"inputs":[],"parameters":{"a":[', b"0]}}", 400),
        ("/v2/models/yolo/infer", 4 * MB - 100, b'{"more":[', b'0],"inputs":[]}', 400),
        ("/v2/models/kcbert/infer", MB - 100, INPUT % (1, b""), b"0]}]}", 400),
    ],
    ids=["index", "parameters", "unknown field", "data"],
)
def test_json_of_brackets(service: Server, unit: bytes, path: str, size: int, before: bytes, after: bytes, status: int) -> None:
    body = repeated(unit, size, before, after)
    gateway = Gateway(service)
    assert httpx.post(service.url + path, content=body, timeout=30).status_code == status
    assert gateway.peak_bytes() <= 4 * size + SLACK
    assert gateway.cpu_seconds() <= CPU_SECONDS


@pytest.mark.parametrize(
    "message",
    [field(5, b"") * (5 * MB), field(4, b"\n\0\x12\0") * MB, field(5, field(3, b"\1" * 10 * MB))],
    ids=["inputs", "parameters", "shape"],
)
def test_messages_of_many_fields(service: Server, message: bytes) -> None:
    gateway = Gateway(service)
    with grpc.insecure_channel(service.grpc_address) as channel:
        call: Callable[..., object] = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            call(message, timeout=30)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert gateway.peak_bytes() <= 4 * len(message) + SLACK
    assert gateway.cpu_seconds() <= CPU_SECONDS


@contextlib.contextmanager
def unfinished(service: Server, *sizes: int) -> Iterator[list[socket.socket]]:
    """Requests with a photo of 10 MB of which so many bytes were sent."""
    with contextlib.ExitStack() as stack:
        found = []
        for size in sizes:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=30))
            head = f"POST /yolo/prediction HTTP/1.1\r\nHost: a\r\nContent-Type: image/jpeg\r\nContent-Length: {10 * MB}\r\n\r\n"
            with contextlib.suppress(ConnectionError):  # it was answered already
                connection.sendall(head.encode() + bytes(size))
            found.append(connection)
        yield found


def test_unfinished_bodies_beside_honest_clients(service: Server, bottle: bytes) -> None:
    """Bodies that fill the memory to its last byte keep nobody out, and are cut off."""
    fill = [size for power in range(22, 2, -1) for size in (2**power, 2**power)]
    with unfinished(service, *[int(5.4 * MB)] * 94, *fill) as connections, httpx.Client(base_url=service.url) as client:
        texts = Counter(client.post("/predict", json=TEXT, timeout=30).status_code for _ in range(50))
        photos = Counter(
            client.post("/yolo/prediction", content=bottle, headers={"Content-Type": "image/jpeg"}, timeout=30).status_code
            for _ in range(10)
        )
        assert (texts, photos) == ({200: 50}, {200: 10})
        answers = Counter(connection.recv(12) for connection in connections)
        assert set(answers) == {b"HTTP/1.1 408", b"HTTP/1.1 503"}
    wait_until(lambda: service.metric("bunriwiki_requests_in_flight", protocol="rest") == 0)


def test_a_slow_body_is_cut_off(service: Server) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=1) as connection:
        head = "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n"
        connection.sendall(head.encode())
        begun = time.monotonic()
        answer = b""
        while not answer:
            with contextlib.suppress(TimeoutError):
                connection.sendall(b" ")
                answer = connection.recv(100)
        assert answer.startswith(b"HTTP/1.1 408")
        assert time.monotonic() - begun < 25  # less than the whole body has (BUNRIWIKI_DEADLINE_SECONDS)
