"""How a gateway worker ends: unready at once, then a while for everybody to notice, then no new connections."""

from __future__ import annotations

import asyncio
import signal
from types import FrameType

from bunriwiki.protocols.handlers.dataplane import DataPlane


def drain_on_sigterm(dataplane: DataPlane, seconds: float) -> None:
    """On SIGTERM become unready, serve on for `seconds`, and only then do what was to be done on SIGTERM.

    Meanwhile every answer carries `Connection: close`, so that clients which keep a connection open learn of it.
    """
    loop = asyncio.get_running_loop()
    stop = signal.getsignal(signal.SIGTERM)  # uvicorn's: takes no new connections, answers what is in flight, ends

    def drain(number: int, frame: FrameType | None) -> None:
        dataplane.draining = True
        if callable(stop):
            loop.call_soon_threadsafe(loop.call_later, seconds, stop, number, frame)

    signal.signal(signal.SIGTERM, drain)
