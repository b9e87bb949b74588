"""What every runner's process has in common."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import bentoml

from settings import settings
from telemetry import logs

if TYPE_CHECKING:
    from _bentoml_sdk.service import ServiceConfig

CONFIG: ServiceConfig = {
    "workers": settings().runner_workers,
    # One batch at a time: a second one would only compete for the same cores.
    "threads": 1,
    # BentoML's proxy closes its session under running calls every 100 requests or 300 s unless told not to.
    "runner_connection": {"max_requests": 2**31, "max_age": 1e9},
    "traffic": {"timeout": settings().deadline},
    "logging": {"access": {"enabled": False}},
    "metrics": {"enabled": False},
}


class Runner:
    """Base of the runners' BentoML services."""

    def __init__(self) -> None:
        logs.configure(settings().log_level)

    @bentoml.on_startup
    def leave_interrupts_to_the_parent(self) -> None:
        """Ctrl-C reaches every process of the terminal at once. A runner waits for the parent's SIGTERM, which comes after the
        gateway has ended (see `supervisor.py`), so that no batch loses its runner."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
