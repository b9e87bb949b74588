"""Measures what a batch costs the runner."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from bunriwiki.artifacts.answers import Work

Parameters = ParamSpec("Parameters")
ResultT = TypeVar("ResultT")


class WorkMeter:
    """Adds up the work of one batch, whose inputs may go through several forward passes. Use it in one thread."""

    def __init__(self) -> None:
        self._preprocess_seconds = 0.0
        self._forward_seconds = 0.0
        self._tokens = 0
        self._padding_tokens = 0

    def preprocess(self, call: Callable[Parameters, ResultT], *args: Parameters.args, **kwargs: Parameters.kwargs) -> ResultT:
        """The result of `call`, which decodes or tokenizes inputs; timed."""
        begun = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            self._preprocess_seconds += time.perf_counter() - begun

    def forward(self, call: Callable[Parameters, ResultT], *args: Parameters.args, **kwargs: Parameters.kwargs) -> ResultT:
        """The result of `call`, which is a forward pass; timed."""
        begun = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            self._forward_seconds += time.perf_counter() - begun

    def count_tokens(self, tokens: int, padding: int) -> None:
        """Count the tokens of a forward pass, of which `padding` are padding."""
        self._tokens += tokens
        self._padding_tokens += padding

    @property
    def work(self) -> Work:
        """The work so far."""
        return Work(self._preprocess_seconds, self._forward_seconds, self._tokens, self._padding_tokens)
