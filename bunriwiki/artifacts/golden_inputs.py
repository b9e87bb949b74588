"""Chooses the inputs of the golden samples for an artifact without golden samples, from the reference set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from bunriwiki.artifacts.reference import read_reference_photos, read_reference_texts

COUNT = 64

ItemT = TypeVar("ItemT")


def golden_texts(reference: Path) -> list[str]:
    """Texts of the reference set in the folder `reference`. Raises DamagedArtifactError."""
    return [sample.text for sample in spread(read_reference_texts(reference), lambda sample: sample.label)]


def golden_photos(reference: Path) -> list[Path]:
    """Photos of the reference set in the folder `reference`. Raises DamagedArtifactError."""
    samples = read_reference_photos(reference)
    chosen = spread(samples, lambda sample: sample.objects[0].label if sample.objects else "")
    return [reference / sample.image for sample in chosen]


def spread(items: Sequence[ItemT], label: Callable[[ItemT], str]) -> list[ItemT]:
    """At most COUNT items, taken from each label in turn, so that rare labels are included. Deterministic."""
    groups: defaultdict[str, list[ItemT | None]] = defaultdict(list)
    for item in items:
        groups[label(item)].append(item)
    rounds = zip_longest(*groups.values())
    return [item for group in rounds for item in group if item is not None][:COUNT]
