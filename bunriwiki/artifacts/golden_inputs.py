"""Chooses the inputs of the golden samples for an artifact without golden samples, from the reference set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from bunriwiki.artifacts.reference import ReferencePhoto, ReferenceText, read_reference_photos, read_reference_texts

COUNT = 64

ItemT = TypeVar("ItemT")


def golden_texts(reference: Path) -> list[str]:
    """Texts of the reference set in the folder `reference`. Raises DamagedArtifactError."""
    return [sample.text for sample in spread(read_reference_texts(reference), group)]


def golden_photos(reference: Path) -> list[Path]:
    """Photos of the reference set in the folder `reference`. Raises DamagedArtifactError."""
    samples = read_reference_photos(reference)
    chosen = spread(samples, group)
    return [reference / sample.image for sample in chosen]


def group(sample: ReferenceText | ReferencePhoto) -> tuple[str, str]:
    """The kind and the first label of a sample."""
    if isinstance(sample, ReferenceText):
        return "", sample.label
    return sample.kind or "", sample.objects[0].label if sample.objects else ""


def spread(items: Sequence[ItemT], label: Callable[[ItemT], Hashable]) -> list[ItemT]:
    """At most COUNT items, taken from each label in turn, so that rare labels are included. Deterministic."""
    groups: defaultdict[Hashable, list[ItemT | None]] = defaultdict(list)
    for item in items:
        groups[label(item)].append(item)
    rounds = zip_longest(*groups.values())
    return [item for group in rounds for item in group if item is not None][:COUNT]
