"""The gRPC server of one gateway worker."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from loguru import logger

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.protocols.grpc.malformed import RejectMalformed
from bunriwiki.protocols.grpc.open_inference_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from bunriwiki.protocols.grpc.servicer import SERVICE, Servicer
from bunriwiki.protocols.handlers.memory import Memory
from bunriwiki.protocols.inference.handlers import OpenInference
from bunriwiki.web.clients import Clients

if TYPE_CHECKING:
    from bunriwiki.telemetry.spans import Tracing

MAX_CALLS = 1024  # at a time; further calls are answered RESOURCE_EXHAUSTED
MAX_BYTES = 10 * 2**20 + 2**16
POLL_SECONDS = 1.0  # between two readiness checks of the models
OPTIONS = [
    ("grpc.so_reuseport", 1),  # the kernel spreads connections over the gateway's workers
    ("grpc.max_receive_message_length", MAX_BYTES),
    ("grpc.max_metadata_size", 16 * 2**10),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # clients may keep idle connections alive
]


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files. `clients` are the authorities for client certificates: if set, TLS is mutual."""

    chain: Path
    key: Path
    clients: Path | None


class GrpcServer:
    """Open Inference, health and reflection on one port. With `tracing`, each call of Open Inference has a span."""

    def __init__(
        self, handlers: OpenInference, memory: Memory, tracing: Tracing | None = None, clients: Clients | None = None
    ) -> None:
        self._handlers = handlers
        self._servicer = Servicer(handlers, memory, tracing, clients)
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(interceptors=[RejectMalformed()], options=OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
        self._watch: asyncio.Task[None] | None = None
        add_GRPCInferenceServiceServicer_to_server(self._servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)

    async def open(self, host: str, port: int, certificates: Certificates | None = None) -> None:
        """Start to serve. Raises RuntimeError if the port is not available."""
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if certificates is None:
            self._server.add_insecure_port(address)
        else:
            clients = certificates.clients.read_bytes() if certificates.clients else None
            credentials = grpc.ssl_server_credentials(
                [(certificates.key.read_bytes(), certificates.chain.read_bytes())], clients, clients is not None
            )
            self._server.add_secure_port(address, credentials)
        await self._set_health(dict.fromkeys(MODELS, False))
        await self._server.start()
        self._watch = asyncio.create_task(self._keep_health())

    async def close(self, seconds: float) -> None:
        """Stop: no new calls, and `seconds` for the calls in flight."""
        if self._watch:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        await self._health.enter_graceful_shutdown()
        stopping = asyncio.create_task(self._server.stop(seconds))
        await self._servicer.finish(seconds)
        await self._server.stop(0)  # only idle streams and health watches are left
        await stopping

    async def _keep_health(self) -> None:
        while True:
            try:
                ready = await asyncio.gather(*(self._handlers.model_ready(model) for model in MODELS))
                await self._set_health(dict(zip(MODELS, ready, strict=True)))
            except Exception:
                logger.exception("The readiness check of the models failed")
                await self._set_health(dict.fromkeys(MODELS, False))
            await asyncio.sleep(POLL_SECONDS)

    async def _set_health(self, ready: dict[str, bool]) -> None:
        everything = all(ready.values())
        for service, is_ready in {**ready, SERVICE.full_name: everything, "": everything}.items():
            states = health_pb2.HealthCheckResponse
            await self._health.set(service, states.SERVING if is_ready else states.NOT_SERVING)
