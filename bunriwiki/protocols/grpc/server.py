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
from bunriwiki.protocols.grpc.admission import Admission
from bunriwiki.protocols.grpc.arrivals import LOOKAHEAD_BYTES, Arrivals
from bunriwiki.protocols.grpc.malformed import RejectMalformed
from bunriwiki.protocols.grpc.open_inference_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from bunriwiki.protocols.grpc.received import ReceivedBytes
from bunriwiki.protocols.grpc.servicer import SERVICE, Servicer
from bunriwiki.protocols.handlers.memory import Memory
from bunriwiki.protocols.inference.handlers import OpenInference
from bunriwiki.web.clients import Clients
from bunriwiki.web.open_files import max_connections

if TYPE_CHECKING:
    from bunriwiki.telemetry.spans import Tracing

MAX_BYTES = 10 * 2**20 + 2**16
# Of a connection. A client of gRPC sends all calls over one, and loses those that come before the core has forgotten others:
# with 128, a quarter of the calls of a client with 256 at a time. Idle ones are limited in total (`admission.py`).
MAX_STREAMS = 1024
FILES_SHARE = 0.25  # of the files that this process may have open, for connections; more are closed at once
POLL_SECONDS = 1.0  # between two readiness checks of the models
OPTIONS = [
    ("grpc.so_reuseport", 1),  # the kernel spreads connections over the gateway's workers
    ("grpc.max_receive_message_length", MAX_BYTES),
    # What may arrive of a message before a call reads it. If the core estimated the bandwidth, it would be 4 MB at least.
    ("grpc.http2.lookahead_bytes", LOOKAHEAD_BYTES),
    ("grpc.http2.bdp_probe", 0),
    # Without it, a connection on which much arrived at a time keeps as much memory ready for more: several MB.
    ("grpc.experimental.tcp_max_read_buffer_size", 64 * 2**10),
    ("grpc.max_metadata_size", 16 * 2**10),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    # Calls that have not reached Python; more of them, whoever sends them, are rejected at random.
    ("grpc.server.max_pending_requests", 4096),
    ("grpc.server.max_pending_requests_hard_limit", 8192),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.max_connection_age_ms", 3_600_000),  # give or take a tenth; calls then have the grace to end
    ("grpc.max_connection_age_grace_ms", 300_000),
    ("grpc.server_handshake_timeout_ms", 10_000),  # of TLS and of HTTP/2
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # clients may keep idle connections alive
    ("grpc.http2.max_ping_strikes", 2),  # more pings than that close the connection
]


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files. `clients` are the authorities for client certificates: if set, TLS is mutual."""

    chain: Path
    key: Path
    clients: Path | None


class GrpcServer:
    """Open Inference, health and reflection on one port. With `tracing`, each call of Open Inference has a span.

    The message of a call has to arrive within `message_seconds`; messages that are arriving count in `memory`.
    """

    def __init__(
        self,
        handlers: OpenInference,
        memory: Memory,
        tracing: Tracing | None = None,
        clients: Clients | None = None,
        message_seconds: float = 30.0,
    ) -> None:
        self._handlers = handlers
        self._servicer = Servicer(handlers, memory, tracing, clients)
        self._health = health.aio.HealthServicer()
        self._port = 0
        received = ReceivedBytes()
        arrivals = Arrivals(memory.large, MAX_BYTES, lambda: received(self._port))
        self._admission = Admission(arrivals, message_seconds)
        self._server = grpc.aio.server(
            interceptors=[self._admission, RejectMalformed()],
            options=[*OPTIONS, ("grpc.max_allowed_incoming_connections", max_connections(FILES_SHARE))],
        )
        self._watch: asyncio.Task[None] | None = None
        add_GRPCInferenceServiceServicer_to_server(self._servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)

    async def open(self, host: str, port: int, certificates: Certificates | None = None) -> None:
        """Start to serve. Raises RuntimeError if the port is not available."""
        self._port = port
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
