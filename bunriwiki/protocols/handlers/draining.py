"""Graceful shutdown of a gateway worker: unready at once, later no new connections."""

from __future__ import annotations

import asyncio
import signal
from types import FrameType

from bunriwiki.protocols.handlers.dataplane import DataPlane


def drain_on_sigterm(dataplane: DataPlane, seconds: float) -> None:
    """On SIGTERM become unready, serve on for `seconds`, and only then call the previous handler of SIGTERM.

    In these seconds load balancers notice the readiness, and every response carries `Connection: close` for clients that keep
    their connections open.
    """
    loop = asyncio.get_running_loop()
    stop = signal.getsignal(signal.SIGTERM)  # uvicorn's: accepts no new connections, answers the requests in flight, exits

    def drain(number: int, frame: FrameType | None) -> None:
        dataplane.draining = True
        if callable(stop):
            loop.call_soon_threadsafe(loop.call_later, seconds, stop, number, frame)

    signal.signal(signal.SIGTERM, drain)
