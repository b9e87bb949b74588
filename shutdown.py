"""Stopping in order: unready, the answers in flight, the gateway, and only then the runners.

circus, which starts BentoML's workers, stops them all at the same moment, and runners would die under batches that wait.
"""

from __future__ import annotations

import asyncio
import signal
from types import FrameType
from typing import Any

from bentoml._internal.utils.circus import Arbiter
from circus.sockets import CircusSocket
from loguru import logger
from tornado import gen

from protocols.dataplane import DataPlane
from settings import settings

GATEWAY = "service"  # the names that BentoML gives to the gateway's watcher and socket
GATEWAY_SOCKET = "_bento_api_server"
CLOSING = 0.2  # seconds between the last connection that is let in and the moment the workers stop taking them


def stop_gateway_before_runners() -> None:
    """In the parent: make its arbiter stop the gateway's workers, wait for them, and then stop everything else."""
    stop_all = Arbiter.stop

    @gen.coroutine
    def stop(arbiter: Arbiter) -> Any:
        gateway = next((watcher for watcher in arbiter.watchers if watcher.name == GATEWAY), None)
        if gateway is not None and not getattr(arbiter, "stopping_in_order", False):
            arbiter.stopping_in_order = True
            logger.info("stopping: the gateway first")
            stopped = gateway._stop()
            yield gen.sleep(settings().drain)
            yield from _shut(arbiter.sockets.get(GATEWAY_SOCKET))
            yield stopped
            logger.info("stopping: the runners")
        yield stop_all(arbiter)

    Arbiter.stop = stop


def drain_on_sigterm(dataplane: DataPlane) -> None:
    """In a gateway worker: on SIGTERM become unready at once, and stop taking connections only after the drain time.

    During it every answer carries `Connection: close`, so that clients which keep connections open learn of it.
    """
    loop = asyncio.get_running_loop()
    stop = signal.getsignal(signal.SIGTERM)  # uvicorn's

    def drain(number: int, frame: FrameType | None) -> None:
        dataplane.draining = True
        if callable(stop):
            loop.call_soon_threadsafe(loop.call_later, settings().drain + 2 * CLOSING, stop, number, frame)

    signal.signal(signal.SIGTERM, drain)


def _shut(socket: CircusSocket | None) -> Any:
    """Refuse new connections, without losing one that is already in the kernel's queue.

    The parent shares the listening socket with its workers; were it left open, the kernel would go on to accept connections
    that nobody answers. So: no more room in the queue, a moment for the workers to empty it, then the end of listening.
    """
    if socket is None:
        return
    socket.listen(0)
    yield gen.sleep(CLOSING)
    socket.shutdown(2)
