"""Caches answers to the reference set: the serving version answered it when it was evaluated as a candidate."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from model_sync.evaluation.report import Answer

Answers = tuple[Answer, ...]


class RememberedAnswers:
    """The answers of the versions that took part in the last evaluation of each model. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[str, dict[str, Answers]] = {}

    def of(self, model: str, key: str) -> Answers | None:
        """The answers of `model` that are kept under `key`; None if there are none."""
        with self._lock:
            return self._answers.get(model, {}).get(key)

    def keep(self, model: str, answers: Mapping[str, Answers]) -> None:
        """Keep these answers, by key, in place of all others of this model."""
        with self._lock:
            self._answers[model] = dict(answers)
