"""The sidecar is killed at any instant of real imports: the serving version stays, and the next run completes."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

from bunriwiki.artifacts.manifest import Manifest
from bunriwiki.model_store.generation import Generations
from bunriwiki.model_store.layout import Layout
from bunriwiki.testing.publisher import Publisher, s3_environment
from bunriwiki.testing.seaweedfs import SeaweedFS
from bunriwiki.testing.sidecar import Sidecar
from bunriwiki.testing.untrained import untrained_classifier
from bunriwiki.testing.versions import compiled
from tests.integration.conftest import FULL

KILLS = 200 if FULL else 5
MAX_SECONDS = 8.0  # of an import, with its compilation


def test_kills_at_random_instants(tmp_path: Path, reference: dict[str, str]) -> None:
    chance = random.Random(5)
    phases: Counter[str] = Counter()
    with SeaweedFS(tmp_path / "s3") as s3:
        publisher = Publisher(s3)
        environment = {
            **s3_environment(s3),
            **reference,
            "BUNRIWIKI_POLL_INTERVAL_SECONDS": "1",
            "BUNRIWIKI_SOURCES": "kcbert=s3",
            "BUNRIWIKI_GATE_QUALITY_POINTS": "100",  # untrained versions should pass, and the bundled version after a small one
            "BUNRIWIKI_GATE_FLOOR_SHARE": "0",
            "BUNRIWIKI_GATE_LATENCY_RATIO": "100",
        }
        sidecar = Sidecar(tmp_path / "store", tmp_path / "log", environment)
        killed = number = 0
        completed = True
        while killed < KILLS:
            if completed:
                number += 1
                version = f"v{number}"
                if number % 3:
                    publisher.publish("kcbert", version, compiled("kcbert", tmp_path / version, version))
                else:
                    publisher.publish("kcbert", version, untrained_classifier(tmp_path / version))
            sidecar.start()
            completed = _serves_within(sidecar, version, chance.uniform(0, MAX_SECONDS))
            state = sidecar.state("kcbert")
            phases[(state.phase if state else None) or ("before" if not completed else "after")] += 1
            sidecar.kill()
            killed += 1
            _assert_whole(sidecar.layout, number)
            if killed % 3 == 0:  # the next run completes
                sidecar.start()
                sidecar.wait(lambda wanted=version: sidecar.serving("kcbert") == wanted)  # type: ignore[misc]
                sidecar.kill()
                completed = True
    print(f"{killed} kills over {number} versions, in: {dict(phases)}")
    assert sidecar.serving("kcbert")
    assert not sidecar.events("quarantined")


def _serves_within(sidecar: Sidecar, version: str, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if sidecar.serving("kcbert") == version:
            return True
        time.sleep(0.02)
    return sidecar.serving("kcbert") == version


def _assert_whole(layout: Layout, newest: int) -> None:
    """The data plane reads versions that verify, and a generation file that names a published version."""
    for version in layout.versions("kcbert"):
        folder = layout.version("kcbert", version)
        Manifest.read(folder).verify(folder)
    serving = Generations.read(layout.generation).of("kcbert").serving
    if newest > 1:
        assert serving
    if serving:
        assert serving.version in layout.versions("kcbert")
