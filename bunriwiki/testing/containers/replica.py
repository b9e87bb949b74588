"""Images of a stand-in for the service, which starts in a second: for the mechanics of a rollout, not for models."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Literal

from bunriwiki.artifacts.manifest import MODELS as NAMES
from bunriwiki.testing.containers.engine import Engine
from bunriwiki.testing.containers.images import STAND_INS
from bunriwiki.testing.paths import MODELS, ROOT

Behaviour = Literal["", "wrong", "slow", "fails", "unready", "ends"]
GOOD = "bunriwiki-stand-in"


def build_replica(engine: Engine, behaviour: Behaviour = "", name: str = GOOD) -> str:
    """Build the stand-in with a behaviour, under `name`; returns the name. Its base must be there."""
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder) / "context"
        shutil.copytree(STAND_INS / "replica", context)
        for part in ("__init__.py", "container"):
            source, place = ROOT / "bunriwiki" / part, context / "bunriwiki" / part
            place.parent.mkdir(exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, place)
        for model in NAMES:
            place = context / "models" / model
            place.mkdir(parents=True)
            for part in ("manifest.yaml", "golden.jsonl"):
                shutil.copy(MODELS / model / part, place)
            if (MODELS / model / "golden").is_dir():
                shutil.copytree(MODELS / model / "golden", place / "golden")
        engine.docker("build", f"--build-arg=BEHAVIOUR={behaviour}", "--tag", name, context)
    return name
