"""A writer killed at any instant of a real publication: readers see a whole store, and the next run completes it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bentoml._internal.models import ModelStore

from bunriwiki.artifacts.manifest import MODELS, Manifest
from bunriwiki.model_store.generation import Generations
from bunriwiki.model_store.history import History
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.writer import open_writer
from bunriwiki.testing.paths import MODELS as BUNDLED
from bunriwiki.testing.versions import BUNDLED_VERSION
from tests.integration.conftest import FULL

DEATHS = 200 if FULL else 30
HITS = 5 if FULL else 1  # deaths after each step, at least
STEPS = (
    "opened", "copied", "verified", "described", "synced", "renamed", "published", "recorded",
    "preparing", "prepared", "activated",
)  # fmt: skip
VERSION = BUNDLED_VERSION


def publish_all(root: Path, progress: Callable[[str], None]) -> None:
    """Publish the bundled models and have them serve."""
    with open_writer(root, "a test") as writer:
        progress("opened")
        for model in MODELS:
            writer.publish(BUNDLED / model, "a test", "operator", progress)
            promote(writer, model, VERSION, "a test", "operator", progress=progress)


def run(root: Path, seconds: float, hold_at: tuple[str, int] | None) -> str:
    """Publish in a process of its own, which is killed after `seconds`, or when it pauses after the n-th time of a step.

    Returns the last step that it completed.
    """
    read, write = os.pipe()
    child = os.fork()
    if not child:
        done: Counter[str] = Counter()

        def progress(step: str) -> None:
            os.write(write, f"{step}\n".encode())
            done[step] += 1
            if hold_at == (step, done[step]):
                os.write(write, b"holding\n")
                signal.pause()

        try:
            publish_all(root, progress)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as steps:
        reported: list[str] = []
        if hold_at:
            while "holding" not in reported:
                reported.append(steps.readline().strip())
        else:
            time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        reported += steps.read().split()
    if not os.WIFSIGNALED(status):
        return "not killed"
    return next((step for step in reversed(reported) if step != "holding"), "started")


def assert_reads_cleanly(layout: Layout) -> None:
    """Every reader can read what it sees."""
    for model, versions in layout.published().items():
        for version in versions:
            folder = layout.version(model, version)
            Manifest.read(folder).verify(folder)
    if layout.models.exists():
        ModelStore(layout.models).list()
    for generation in Generations.read(layout.generation).models.values():
        for target in (generation.serving, generation.preparing):
            assert target is None or target.version == VERSION
    list(History(layout.history).read())


def assert_complete(layout: Layout) -> None:
    assert layout.published() == {model: [VERSION] for model in sorted(MODELS)}
    assert list(layout.staging.iterdir()) == []
    assert not list(layout.root.glob(".*"))
    for model in MODELS:
        now = Generations.read(layout.generation).of(model)
        assert now.serving
        assert (now.generation, now.serving.version, now.preparing) == (1, VERSION, None)
        kinds = Counter(event.kind for event in History(layout.history).read(model))
        assert (kinds["published"], kinds["activated"]) == (1, 1)


def test_a_writer_killed_at_random_instants(tmp_path: Path) -> None:
    chance = random.Random(4)
    began = time.monotonic()
    publish_all(tmp_path / "whole", lambda _: None)
    whole = time.monotonic() - began
    hits: Counter[str] = Counter()
    number = 0
    while hits.total() - hits["not killed"] < DEATHS or any(hits[step] < HITS for step in STEPS):
        assert number < 3 * DEATHS, f"a step was never hit: {hits}"
        layout = Layout(tmp_path / str(number))
        # Half at a random instant, half right after a step: some steps are too short to be hit by chance.
        step = STEPS[number // 2 % len(STEPS)]
        times = 1 if step == "opened" else chance.randint(1, len(MODELS))
        hits[run(layout.root, chance.uniform(0, whole), (step, times) if number % 2 else None)] += 1
        assert_reads_cleanly(layout)
        publish_all(layout.root, lambda _: None)
        assert_complete(layout)
        shutil.rmtree(layout.root)
        number += 1
    print(f"{DEATHS} deaths, after: {dict(hits)}")
