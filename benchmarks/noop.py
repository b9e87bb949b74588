"""The service with a kcbert that does nothing: what the REST server, the batcher and the inter-process call cost.

bentoml serve benchmarks.noop:Bunriwiki
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import runners.kcbert
from bunriwiki.artifacts.answers import Answers, Classification
from bunriwiki.artifacts.manifest import Manifest
from runners.throttle import Pause, unthrottled

ANSWER = Classification(label="none", score=0.9, details={"none": 0.9, "hate": 0.1})


class NoOp:
    """A classifier with the version of a folder and the same answer for every text."""

    def __init__(self, folder: Path) -> None:
        self.version = Manifest.read(folder).version

    def warm_up(self, pause: Pause = unthrottled) -> None:
        pause()

    def predict(self, texts: Sequence[str]) -> Answers[Classification]:
        return Answers(model="kcbert", version=self.version, results=(ANSWER,) * len(texts))


# The gateway and every worker import this module, so the runner opens versions with this class.
runners.kcbert.KcBert = NoOp  # type: ignore[misc,assignment]

from service import Bunriwiki  # noqa: E402 - after the model was replaced

__all__ = ["Bunriwiki"]
