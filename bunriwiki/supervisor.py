"""The parent of all workers: starts a dead one again soon, and stops them in order.

BentoML starts its workers through circus' arbiter. Left alone it looks for dead workers every ten seconds only, and stops
gateway and runners at the same moment, so that runners die under batches that wait. Both are changed here, in the one place
that every way of serving passes through: `bentoml serve` in the clone, of a Bento, and in a container.
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
from pathlib import Path
from typing import Any

from bentoml._internal.utils import circus
from circus.sockets import CircusSocket
from circus.watcher import Watcher
from loguru import logger
from prometheus_client.multiprocess import mark_process_dead
from tornado.gen import coroutine, sleep

from bunriwiki import runner_launch
from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.model_store.heartbeats import Heartbeats
from bunriwiki.model_store.layout import Layout
from bunriwiki.protocols.grpc.port import reserve
from bunriwiki.settings import settings
from bunriwiki.telemetry import logs

GATEWAY = "service"  # the names that BentoML gives to the gateway's watcher and socket
GATEWAY_SOCKET = "_bento_api_server"
SO_ATTACH_FILTER = 26  # of Linux; Python does not name it
RUNNER = "service_"  # and to a runner's, before the model
POLL_SECONDS = 2  # seconds between two looks at the workers
SOCKETS = "BUNRIWIKI_SOCKETS"  # the variable with the folder in which each runner has a folder with its workers' sockets
CLOSING = 1.0  # seconds for the workers to take what is left in the kernel's queue, and for slow clients to send it


class OrderlyArbiter(circus.Arbiter):
    """Stops the gateway's workers, waits until they have answered what is in flight, and only then stops the runners."""

    _stopping: bool
    held_port: socket.socket | None = None

    def __init__(self, watchers: list[Watcher], **options: Any) -> None:
        # Of this start, and for this user only: the sockets of the runners, and of circus. BentoML has circus listen on TCP
        # ports, where any local user may ask for the workers' environment, and for commands to be run.
        self._folder = Path(tempfile.mkdtemp(prefix="bunriwiki-"))
        endpoints = {name: f"ipc://{self._folder / name}" for name in ("endpoint", "pubsub_endpoint")}
        super().__init__(watchers, **{**options, **endpoints, "check_delay": POLL_SECONDS})
        # BentoML keeps every server's metrics in one folder, and wipes it at each start: two would lose each other's.
        self._metrics = self._folder / "metrics"
        self._metrics.mkdir()
        layout = Layout(settings().model_store)
        self._heartbeats = Heartbeats(layout.run)
        with contextlib.suppress(OSError):  # a store that cannot be written to: no version waits for the workers then
            layout.run.mkdir(parents=True, exist_ok=True)
        for watcher in watchers:
            watcher.respawn = True  # BentoML switches it off in containers, where a dead worker would stay dead
            watcher.env |= {
                "PROMETHEUS_MULTIPROC_DIR": str(self._metrics),
                SOCKETS: str(self._folder),
                logs.ADDRESS: logs.address(),
            }
            watcher.hooks["after_reap"] = self._clear_away
            model = watcher.name.removeprefix(RUNNER)
            if model in MODELS:
                self._launch_in_a_sandbox(watcher, model)

    def _launch_in_a_sandbox(self, watcher: Watcher, model: str) -> None:
        """Have the workers of a runner started as `runner_launch` says."""
        sockets, temporary = self._folder / model, self._folder / f"{model}-tmp"
        sockets.mkdir()
        temporary.mkdir()
        policy = runner_launch.policy(model, settings(), sockets=sockets, writable=[temporary, self._metrics])
        # circus hands its sockets to every process; this one keeps that of its own service.
        own = watcher.args[watcher.args.index("--fd") + 1]  # circus puts the number there
        fields = policy.to_json().replace('"keep": []', f'"keep": [{own}]')
        watcher.args = ["-m", "bunriwiki.sandbox", fields, sys.executable, *watcher.args]
        watcher.env = runner_launch.environment(watcher.env, temporary)

    @coroutine
    def stop(self) -> Generator[Any, Any, None]:
        if self._stopping:
            return
        self._stopping = True  # no more looks: one that finds no gateway would end everything at once, with an error
        gateway = next((watcher for watcher in self.watchers if watcher.name == GATEWAY), None)
        if gateway is not None:
            logger.info("stopping the gateway")
            stopped = gateway._stop()
            yield sleep(settings().drain_seconds)
            yield _shut(self.sockets[GATEWAY_SOCKET])
            yield stopped
        while self._exclusive_running_command is not None:  # a look that had begun: circus rejects to stop during one
            yield sleep(0.05)
        logger.info("stopping the runners")
        yield super().stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _clear_away(self, *, process_pid: int, **_: Any) -> None:
        """Forget what a dead worker said of itself: no new version waits for it, and no gauge goes on to show it."""
        mark_process_dead(process_pid, str(self._metrics))
        for socket_file in self._folder.glob(f"*/{process_pid}.*"):
            socket_file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._heartbeats.forget_process(process_pid)


def supervise() -> None:
    """Have BentoML start its workers through OrderlyArbiter. To be called in the parent, before it does.

    Ends the process when another service has the gRPC door's port.
    """
    if settings().grpc_port:
        OrderlyArbiter.held_port = reserve(settings().grpc_host, settings().grpc_port)
    circus.Arbiter = OrderlyArbiter


@coroutine
def _shut(listening: CircusSocket) -> Generator[Any, Any, None]:
    """Reject new connections without losing one that the kernel has already accepted.

    The parent shares the listening socket with its workers. Were it left open while they stop, connections would go on to be
    accepted that nobody answers. So: no packet reaches it any more (whoever tries, tries again in a second, and is rejected
    then), a moment for the workers to take what stands in its queue, the end of listening. Ending it at once would cut off what
    has just come into the queue.
    """
    listening.listen(0)
    with contextlib.suppress(OSError):  # a kernel without filters: a connection that comes in this very moment may be lost
        _drop_packets(listening)
    yield sleep(CLOSING)
    listening.shutdown(2)


def _drop_packets(listening: CircusSocket) -> None:
    """Attach a filter to a socket that lets nothing through (Linux, classic BPF: one instruction, return 0)."""
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(instruction)))
