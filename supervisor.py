"""The parent of all workers: starts a dead one again soon, and stops them in order.

BentoML starts its workers through circus' arbiter. Left alone it looks for dead workers every ten seconds only, and stops
gateway and runners at the same moment, so that runners die under batches that wait. Both are changed here, in the one place
that every way of serving passes through: `bentoml serve` in the clone, of a Bento, and in a container.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from bentoml._internal.utils import circus
from circus.sockets import CircusSocket
from circus.watcher import Watcher
from loguru import logger
from tornado.gen import coroutine, sleep

from settings import settings

GATEWAY = "service"  # the names that BentoML gives to the gateway's watcher and socket
GATEWAY_SOCKET = "_bento_api_server"
LOOK_EVERY = 2  # seconds between two looks at the workers
CLOSING = 0.5  # seconds for the workers to take what is left in the kernel's queue, and for slow clients to send it


class OrderlyArbiter(circus.Arbiter):
    """Stops the gateway's workers, waits until they have answered what is in flight, and only then stops the runners."""

    _stopping: bool

    def __init__(self, watchers: list[Watcher], **options: Any) -> None:
        super().__init__(watchers, **{**options, "check_delay": LOOK_EVERY})
        for watcher in watchers:
            watcher.respawn = True  # BentoML switches it off in containers, where a dead worker would stay dead

    @coroutine
    def stop(self) -> Generator[Any, Any, None]:
        if self._stopping:
            return
        self._stopping = True  # no more looks: one that finds no gateway would end everything at once, with an error
        gateway = next((watcher for watcher in self.watchers if watcher.name == GATEWAY), None)
        if gateway is not None:
            logger.info("stopping the gateway")
            stopped = gateway._stop()
            yield sleep(settings().drain)
            yield _shut(self.sockets[GATEWAY_SOCKET])
            yield stopped
        while self._exclusive_running_command is not None:  # a look that had begun: circus refuses to stop during one
            yield sleep(0.05)
        logger.info("stopping the runners")
        yield super().stop()


def supervise() -> None:
    """Have BentoML start its workers through OrderlyArbiter. To be called in the parent, before it does."""
    circus.Arbiter = OrderlyArbiter


@coroutine
def _shut(socket: CircusSocket) -> Generator[Any, Any, None]:
    """Refuse new connections without losing one that the kernel has already accepted.

    The parent shares the listening socket with its workers. Were it left open while they stop, connections would go on to be
    accepted that nobody answers. So: no more room in the queue, a moment for the workers to empty it, the end of listening.
    """
    socket.listen(0)
    yield sleep(CLOSING)
    socket.shutdown(2)
