"""The gRPC server of the real service: TLS, reflection, limits, several workers, promotions under load, shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.writer import StoreWriter
from bunriwiki.protocols.grpc import open_inference_pb2 as pb
from bunriwiki.protocols.grpc.open_inference_pb2_grpc import GRPCInferenceServiceStub
from bunriwiki.testing.calls import TEXT, Call, text_call
from bunriwiki.testing.load import run_load
from bunriwiki.testing.paths import ROOT
from bunriwiki.testing.server import Server
from bunriwiki.testing.versions import BUNDLED_VERSION
from tests.integration.conftest import FULL, PAUSE_SECONDS

CLIENTS = 32
COMPARED_SECONDS = 8.0 if FULL else 1.0  # of load through each protocol
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


def stub_of(channel: Any) -> Any:
    return GRPCInferenceServiceStub(channel)


class Authority:
    """Issues certificates, as PEM files in `folder`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key.public_key(), authority=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        """The files of a new certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        chain, secret = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        chain.write_bytes(self._sign(subject, key.public_key()).public_bytes(serialization.Encoding.PEM))
        secret.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return chain, secret

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool = False) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )


def secure(address: str, authority: Path, client: tuple[Path, Path] | None = None) -> Any:
    chain, key = (client[0].read_bytes(), client[1].read_bytes()) if client else (None, None)
    credentials = grpc.ssl_channel_credentials(authority.read_bytes(), key, chain)
    return stub_of(grpc.secure_channel(address.replace("127.0.0.1", "localhost"), credentials))


def test_mutual_tls(start: Callable[..., Server], tmp_path: Path) -> None:
    ours, strangers = Authority(tmp_path, "ours"), Authority(tmp_path, "strangers")
    chain, key = ours.issue("server")
    environment = {
        "BUNRIWIKI_GRPC_CERTIFICATE": str(chain),
        "BUNRIWIKI_GRPC_KEY": str(key),
        "BUNRIWIKI_GRPC_CLIENTS": str(ours.file),
    }
    server = start(grpc=True, environment=environment)
    address = server.grpc_address
    assert secure(address, ours.file, ours.issue("client")).ModelInfer(text_call("kcbert"), timeout=20).model_name == "kcbert"
    for rejected in (
        secure(address, ours.file),
        secure(address, ours.file, strangers.issue("stranger")),
        secure(address, strangers.file, ours.issue("client")),
        stub_of(grpc.insecure_channel(address)),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            rejected.ServerLive(pb.ServerLiveRequest(), timeout=5)
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    server.stop()


def test_several_workers_reflection_and_limits(start: Callable[..., Server]) -> None:
    server = start(grpc=True, environment={"BUNRIWIKI_GATEWAY_WORKERS": "2"})
    address = server.grpc_address
    found = ProtoReflectionDescriptorDatabase(grpc.insecure_channel(address))
    assert "inference.GRPCInferenceService" in found.get_services()
    assert found.FindFileContainingSymbol("inference.ModelInferRequest").package == "inference"

    calls = 40
    for _ in range(calls):
        with grpc.insecure_channel(address, OWN_CONNECTION) as channel:
            stub_of(channel).ModelInfer(text_call("kcbert"), timeout=20)
    counts = set()
    for _ in range(calls):
        with grpc.insecure_channel(address, OWN_CONNECTION) as channel:
            request = pb.ModelStatisticsRequest(name="kcbert")
            counts.add(stub_of(channel).ModelStatistics(request, timeout=20).model_stats[0].inference_count)
    # Each worker has its own statistics: the kernel gave both of them connections, and every call was answered once.
    assert 0 not in counts
    assert sum(counts) * (2 if len(counts) == 1 else 1) == calls

    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        stub_of(channel).ModelInfer(text_call(text="a" * 11 * 2**20), timeout=20)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    broken: Any = grpc.insecure_channel(address).unary_unary("/inference.GRPCInferenceService/ModelInfer")
    for junk in (b"\xff", b"\x0a\xff\xff\xff\xff", bytes(range(256))):
        with pytest.raises(grpc.RpcError) as caught:
            broken(junk, timeout=20)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "cannot be decoded" in (caught.value.details() or "")
    assert server.is_ready()
    server.stop()


async def grpc_load(address: str, until: Callable[[], bool], pause: float = 0.0) -> Counter[str]:
    """The results of the calls that CLIENTS clients, each with a connection of its own, sent one after the other.

    A client waits `pause` seconds between two calls.
    """
    counts: Counter[str] = Counter()

    async def client(number: int) -> None:
        models = itertools.cycle(["kcbert", "sentiment"] if number % 2 else ["sentiment", "kcbert"])
        async with grpc.aio.insecure_channel(address, OWN_CONNECTION) as channel:
            stub = stub_of(channel)
            while not until():
                try:
                    await stub.ModelInfer(text_call(next(models)), timeout=60)
                    counts["OK"] += 1
                except grpc.aio.AioRpcError as error:
                    counts[f"{error.code().name}: {error.details()}"] += 1
                await asyncio.sleep(pause)

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    return counts


def test_promotions_under_grpc_load(start: Callable[..., Server], store: StoreWriter) -> None:
    environment = {
        "BUNRIWIKI_RUNNER_WORKERS": "2",
        "BUNRIWIKI_MODEL_STORE": str(store.layout.root),
        "BUNRIWIKI_LOG_REQUESTS": "false",
    }
    server = start(grpc=True, environment=environment)
    address = server.grpc_address
    over = False
    counts: Counter[str] = Counter()
    load = threading.Thread(target=lambda: counts.update(asyncio.run(grpc_load(address, lambda: over, PAUSE_SECONDS))))
    load.start()
    try:
        for version in ("v1", "v2", "v3") * (4 if FULL else 1):
            for model in ("kcbert", "sentiment"):
                promote(store, model, version, "a test", "operator")
    finally:
        over = True
        load.join()
    assert set(counts) == {"OK"}

    # The same calls through both protocols, in turn.
    body = json.dumps({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [TEXT]}]}).encode()
    calls = [Call(f"/v2/models/{model}/infer", body, "application/json") for model in ("kcbert", "sentiment")]
    rates: dict[str, list[float]] = {"grpc": [], "rest": []}
    for _ in range(3):
        began = time.monotonic()
        end = began + COMPARED_SECONDS
        results = asyncio.run(grpc_load(address, lambda end=end: time.monotonic() > end))  # type: ignore[misc]
        rates["grpc"].append(results.total() / (time.monotonic() - began))
        assert set(results) == {"OK"}
        outcome = asyncio.run(run_load(server.url, calls, clients=CLIENTS, seconds=COMPARED_SECONDS))
        rates["rest"].append(outcome.counts["200"] / outcome.seconds)
        assert set(outcome.counts) == {"200"}
    rounded = {protocol: [round(rate) for rate in found] for protocol, found in rates.items()}
    print(f"{counts['OK']} calls during promotions, all OK; calls per second {rounded}")
    if FULL:
        assert sorted(rates["grpc"])[1] >= sorted(rates["rest"])[1]
    server.stop()


def test_sigterm_under_grpc_load(start: Callable[..., Server]) -> None:
    server = start(grpc=True)
    address = server.grpc_address
    health: list[int] = []  # the statuses that followed SERVING
    results: list[tuple[float, str]] = []  # when each call began, and its status

    async def client() -> None:
        async with grpc.aio.insecure_channel(address, OWN_CONNECTION) as channel:
            stub = stub_of(channel)
            while server.process.poll() is None:
                began = time.monotonic()
                try:
                    await stub.ModelInfer(text_call("kcbert"), timeout=60)
                    results.append((began, "OK"))
                except grpc.aio.AioRpcError as error:
                    results.append((began, error.code().name))
                    await asyncio.sleep(0.05)

    async def clients() -> None:
        async with grpc.aio.insecure_channel(address) as idle:
            watch = health_pb2_grpc.HealthStub(idle).Watch(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
            while (await watch.read()).status != health_pb2.HealthCheckResponse.SERVING:
                pass  # every change is a message
            await asyncio.gather(follow(watch), *(client() for _ in range(CLIENTS)))

    async def follow(watch: Any) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            while (message := await watch.read()) is not grpc.aio.EOF:
                health.append(message.status)

    load = threading.Thread(target=lambda: asyncio.run(clients()))
    load.start()
    time.sleep(2)
    terminated = time.monotonic()
    assert server.stop() == 0
    took = time.monotonic() - terminated
    load.join()
    assert {result for began, result in results if began < terminated} == {"OK"}
    # Later calls are answered or find nothing listening; gRPC cancels a call that arrives at the very end.
    assert {result for _, result in results} <= {"OK", "UNAVAILABLE", "CANCELLED"}
    assert sum(result == "CANCELLED" for _, result in results) <= CLIENTS
    assert health == [health_pb2.HealthCheckResponse.NOT_SERVING]
    assert took < 15  # the open health watch does not delay the end
    assert not server.is_ready()


def test_node(server: Server) -> None:
    folder = ROOT / "examples" / "node"
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True, timeout=120)
    command = ["node", "client.js", server.grpc_address]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.splitlines() == [f"sentiment: 긍정 부정 version {BUNDLED_VERSION}", "yolo: plastic"]
