"""The status of the rollout for operators: what its process wrote, and what operators want of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from bunriwiki.model_store.layout import Layout
from model_sync.rollout.state import Rollout, State
from model_sync.rollout.wishes import Wishes

ALIVE_SECONDS = 60.0  # without a sign of life, the process counts as ended
SHOWN_RESULTS = 10


class RolloutStatus(BaseModel):
    """The answer of `GET /rollout` and of every command about the rollout."""

    model_config = ConfigDict(frozen=True)

    alive: bool = Field(description="Whether the rollout's process gave a sign of life in the last minute.")
    rollout: Rollout | None = Field(description="The last rollout, which may be under way; null if there was none.")
    replaced: int = Field(description="Replicas that have the new image.")
    paused: bool = Field(description="Whether an operator paused it.")
    waiting: str | None = Field(description="The step that waits for an operator's approval.")
    problem: str | None = Field(description="What keeps the rollout from its next step.")
    results: tuple[Rollout, ...] = Field(description="The last rollouts that ended, oldest first.")

    @classmethod
    def read(cls, layout: Layout, now: Callable[[], float] = time.time) -> Self:
        """The status of the store at `layout`. Raises StateError and WishesError."""
        state, wishes = State.read(layout.rollout_state), Wishes.read(layout.rollout_wishes)
        return cls(
            alive=0 <= now() - state.at < ALIVE_SECONDS,
            rollout=state.current,
            replaced=state.replaced,
            paused=wishes.paused,
            waiting=state.waiting,
            problem=state.problem,
            results=state.results[-SHOWN_RESULTS:],
        )
