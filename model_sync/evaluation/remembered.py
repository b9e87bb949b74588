"""Answers to the reference set that are known already: what serves was new once, and answered it then."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from model_sync.evaluation.report import Answer

Answers = tuple[Answer, ...]


class RememberedAnswers:
    """Of each model, the answers of the versions that were evaluated last. Safe to use from many threads."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._answers: dict[str, dict[str, Answers]] = {}

    def of(self, model: str, key: str) -> Answers | None:
        """The answers that are kept under `key`."""
        with self._changing:
            return self._answers.get(model, {}).get(key)

    def keep(self, model: str, answers: Mapping[str, Answers]) -> None:
        """Keep these, by key, and no others of this model."""
        with self._changing:
            self._answers[model] = dict(answers)
