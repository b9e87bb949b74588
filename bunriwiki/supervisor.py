"""The parent of all workers: restarts dead workers soon, and stops the workers in order.

BentoML starts its workers through circus' arbiter. By default it looks for dead workers only every ten seconds, and stops
gateway and runners at the same moment, so that runners end while batches wait for them. The arbiter here changes both, for
every way of serving: `bentoml serve` in the clone, of a Bento, and in a container.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import socket
import struct
import sys
import tempfile
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from bentoml._internal.utils import circus
from circus.sockets import CircusSocket
from circus.watcher import Watcher
from loguru import logger
from prometheus_client import Counter
from tornado.gen import coroutine, sleep

from bunriwiki import runner_launch
from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.container import sizing
from bunriwiki.container.limits import memory
from bunriwiki.model_store.heartbeats import GATEWAY_ROLE, Heartbeats
from bunriwiki.model_store.layout import Layout
from bunriwiki.settings import settings
from bunriwiki.telemetry import logs, metrics
from bunriwiki.telemetry.metrics.archive import merge_dead
from bunriwiki.telemetry.metrics.values import share_values
from bunriwiki.web import open_files
from bunriwiki.web.port import reserve

GATEWAY_WATCHER = "service"  # BentoML's names for the gateway's watcher and socket
GATEWAY_SOCKET = "_bento_api_server"
RUNNER_PREFIX = "service_"  # of the name of a runner's watcher; the model follows
SUPERVISOR = "supervisor"  # the folder of its own metrics
SO_ATTACH_FILTER = 26  # of Linux; Python has no name for it
POLL_SECONDS = 2  # between two checks for dead workers
SOCKETS = "BUNRIWIKI_SOCKETS"  # names the folder that has a folder with the workers' sockets for each runner
CLOSING_SECONDS = 1.0  # for the workers to accept the connections in the kernel's queue, and for slow clients to send requests

STARTS = Counter("bunriwiki_worker_starts_total", "Starts of a worker, the first ones included.", ["role"])


class OrderlyArbiter(circus.Arbiter):
    """Stops the gateway's workers, waits until they have answered the requests in flight, and only then stops the runners."""

    _stopping: bool
    held_ports: ClassVar[list[socket.socket]] = []

    def __init__(self, watchers: list[Watcher], **options: Any) -> None:
        # The sockets of the runners and of circus, accessible to this user only. BentoML has circus listen on TCP ports, where
        # every local user may read the workers' environment and run commands.
        self._folder = Path(tempfile.mkdtemp(prefix="bunriwiki-"))
        endpoints = {name: f"ipc://{self._folder / name}" for name in ("endpoint", "pubsub_endpoint")}
        super().__init__(watchers, **{**options, **endpoints, "check_delay": POLL_SECONDS})
        # BentoML keeps the metrics of all servers in one folder and clears it at each start: two servers would lose counts.
        # In ours, the workers of each role have a folder of their own: a sandboxed worker cannot change the counts of others.
        self._metrics = self._folder / "metrics"
        self._metrics.mkdir()
        share_values(self._metrics_of(SUPERVISOR))
        self._started: set[int] = set()  # the processes of workers that may be alive
        layout = Layout(settings().model_store)
        self._heartbeats = Heartbeats(layout.run)
        with contextlib.suppress(OSError):  # without write access, promotions do not wait for the workers
            layout.run.mkdir(parents=True, exist_ok=True)
        for watcher in watchers:
            watcher.respawn = True  # BentoML turns it off in containers, where a dead worker would stay dead
            role = watcher.name.removeprefix(RUNNER_PREFIX) if watcher.name != GATEWAY_WATCHER else GATEWAY_ROLE
            watcher.env |= {
                metrics.FOLDER: str(self._metrics_of(role)),
                SOCKETS: str(self._folder),
                logs.ADDRESS: logs.address(),
            }
            watcher.hooks["after_spawn"] = partial(self._note_start, STARTS.labels(role))
            watcher.hooks["after_reap"] = self._clean_up
            if role in MODELS:
                self._launch_sandboxed(watcher, role)

    def _metrics_of(self, role: str) -> Path:
        """The folder of the metrics of the workers of `role`."""
        folder = self._metrics / role
        folder.mkdir()
        return folder

    def _launch_sandboxed(self, watcher: Watcher, model: str) -> None:
        """Have the workers of a runner started in a sandbox (see `runner_launch`)."""
        sockets, temporary = self._folder / model, self._folder / f"{model}-tmp"
        sockets.mkdir()
        temporary.mkdir()
        policy = runner_launch.policy(model, settings(), sockets=sockets, writable=[temporary, self._metrics / model])
        # Every process inherits all of circus' sockets; a runner keeps only that of its own service.
        own = watcher.args[watcher.args.index("--fd") + 1]  # a placeholder that circus replaces by the number
        fields = policy.to_json().replace('"keep": []', f'"keep": [{own}]')
        watcher.args = ["-m", "bunriwiki.sandbox", fields, sys.executable, *watcher.args]
        watcher.env = runner_launch.environment(watcher.env, temporary)

    @coroutine
    def stop(self) -> Generator[Any, Any, None]:
        if self._stopping:
            return
        self._stopping = True  # no more checks: without a gateway, a check would end everything at once with an error
        gateway = next((watcher for watcher in self.watchers if watcher.name == GATEWAY_WATCHER), None)
        if gateway is not None:
            logger.info("stopping the gateway")
            stopped = gateway._stop()
            yield sleep(settings().drain_seconds)
            yield _shut(self.sockets[GATEWAY_SOCKET])
            yield stopped
        while self._exclusive_running_command is not None:  # circus does not stop during a check
            yield sleep(0.05)
        logger.info("stopping the runners")
        yield super().stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _note_start(self, starts: Counter, *, pid: int, **_: Any) -> bool:
        """Count a worker that was started; returns whether it may run.

        Cleans up after dead workers of which circus did not tell: it drops those that it finds dead while it starts others.
        """
        starts.inc()
        alive = {pid, *(process for watcher in self.iter_watchers() for process in watcher.processes)}
        for lost in self._started - alive:
            self._clean_up(process_pid=lost)
        self._started.add(pid)
        return True

    def _clean_up(self, *, process_pid: int, **_: Any) -> None:
        """Delete the heartbeat and the sockets of a dead worker, so that no promotion waits for it, and keep its counts."""
        self._started.discard(process_pid)
        try:
            merge_dead(self._metrics, process_pid)
        except Exception:  # they are counted there, too
            logger.exception("the metrics of process {} stay in its own file", process_pid)
        for socket_file in self._folder.glob(f"*/{process_pid}.*"):
            socket_file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._heartbeats.forget_process(process_pid)


def supervise() -> None:
    """Have BentoML start its workers through OrderlyArbiter. Call it in the parent, before BentoML starts them.

    Ends the process if another service has one of the ports that the workers share.
    """
    open_files.raise_limit()
    if small := sizing.warning(memory()):
        logger.warning("{}", small)
    if settings().grpc_port:
        held = reserve(settings().grpc_host, settings().grpc_port, "gRPC", "BUNRIWIKI_GRPC_PORT")
        OrderlyArbiter.held_ports.append(held)
    if settings().health_port:
        held = reserve(settings().metrics_host, settings().health_port, "health checks and metrics", "BUNRIWIKI_METRICS_PORT")
        OrderlyArbiter.held_ports.append(held)
    circus.Arbiter = OrderlyArbiter


@coroutine
def _shut(listening: CircusSocket) -> Generator[Any, Any, None]:
    """Reject new connections without losing those that the kernel has already accepted.

    The parent shares the listening socket with its workers. If it stayed open while they stop, the kernel would accept
    connections that no worker answers; if it were closed at once, the connections in its queue would be cut off. So a filter
    drops all packets to it (clients retry after a second, and are rejected then), the workers get a moment to accept the
    connections in the queue, and then it stops listening.
    """
    listening.listen(0)
    with contextlib.suppress(OSError):  # a kernel without socket filters: a connection that arrives now may be lost
        _drop_packets(listening)
    yield sleep(CLOSING_SECONDS)
    listening.shutdown(2)


def _drop_packets(listening: CircusSocket) -> None:
    """Attach a filter that drops every packet (Linux, classic BPF: one instruction, return 0)."""
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(instruction)))
