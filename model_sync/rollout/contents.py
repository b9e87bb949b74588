"""Which versions an image should contain, and whether they may still serve."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from bunriwiki.artifacts.manifest import MANIFEST, digest
from bunriwiki.model_store.generation import Generations
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.names import FALLBACK
from bunriwiki.model_store.quarantine import Quarantine

TAG_CHARACTERS = 20  # of a sha256 in hex, in the tag of an image


@dataclass(frozen=True, slots=True)
class Serving:
    """The versions that serve by the generation file, fallbacks left out, and since when the last of them does."""

    versions: Mapping[str, str]
    since: datetime | None

    @classmethod
    def of(cls, generations: Generations) -> Serving:
        targets = {model: entry.serving for model, entry in generations.models.items() if entry.serving}
        versions = {model: target.version for model, target in targets.items() if target.version != FALLBACK}
        return cls(dict(sorted(versions.items())), max((target.since for target in targets.values()), default=None))


def withdrawn(versions: Mapping[str, str], generations: Generations, layout: Layout) -> str:
    """Why an image with these versions must not be rolled out; empty if it may.

    A version is withdrawn if it is in quarantine, or if a rollback or an operator left it.
    """
    quarantine = Quarantine(layout.quarantine)
    for model, version in versions.items():
        if quarantine.find(model, version):
            return f"{model} {version} is in quarantine"
        if version in generations.of(model).held:
            return f"{model} {version} was left by a rollback"
    return ""


def tag_of(base: str, versions: Mapping[str, str], layout: Layout) -> str:
    """The tag of an image: a digest of the base image, which has the service's code, and of the manifests of its versions.

    Raises OSError if a version is not in the store.
    """
    digests = {model: digest(layout.version(model, version) / MANIFEST) for model, version in versions.items()}
    text = json.dumps([base, sorted(digests.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:TAG_CHARACTERS]
