"""What all runners share: verify a version, compare it with its golden samples, and isolate inputs that fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from loguru import logger

from bunriwiki.artifacts.answers import Failure
from bunriwiki.artifacts.manifest import DamagedArtifactError, Manifest
from bunriwiki.settings import settings

WARM_UP_SAMPLES = 4  # enough to notice a model that answers, but wrongly

InputT = TypeVar("InputT")
ResultT = TypeVar("ResultT")
ResultT_contra = TypeVar("ResultT_contra", contravariant=True)


class Golden(Protocol[ResultT_contra]):
    """A golden sample (see `bunriwiki.artifacts.golden`)."""

    def differs(self, answer: ResultT_contra) -> str | None: ...


def read_verified(folder: Path, model: str) -> Manifest:
    """The manifest of `folder`, after its files were verified. Raises DamagedArtifactError."""
    manifest = Manifest.read(folder)
    if manifest.model != model:
        raise DamagedArtifactError(f"{folder} holds a version of {manifest.model}, not of {model}")
    manifest.verify(folder)
    return manifest


def threads() -> int:
    """How many threads a forward pass may use in this process."""
    return settings().threads


def isolating(batch: Callable[[Sequence[InputT]], Sequence[ResultT]], inputs: Sequence[InputT]) -> list[ResultT | Failure]:
    """The results of `batch(inputs)`. If it raises, each input runs alone, and only those that raise again get a Failure."""
    try:
        return list(batch(inputs))
    except Exception:
        if len(inputs) == 1:
            logger.exception("an input could not be answered")
            return [Failure(kind="internal", message="The model could not answer this input. It was logged.")]
        logger.warning("a batch of {} failed; trying its inputs one by one", len(inputs))
        return [result for item in inputs for result in isolating(batch, [item])]


def compare_to_golden(folder: Path, sample: Golden[ResultT], answer: ResultT | Failure) -> None:
    """Compare the answer to a golden sample with the expected one. Raises DamagedArtifactError if they differ."""
    difference = answer.message if isinstance(answer, Failure) else sample.differs(answer)
    if difference:
        raise DamagedArtifactError(f"{folder} does not answer as its golden samples do: {difference}")
