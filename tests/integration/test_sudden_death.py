"""A writer that is killed at any instant of a real publication: what it leaves reads cleanly, and the next run completes."""

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
from tests.conftest import MODELS as SHIPPED
from tests.integration.conftest import FULL

DEATHS = 200 if FULL else 50
HITS = 5 if FULL else 1  # least deaths after each step
STEPS = (
    "opened", "copied", "verified", "described", "synced", "renamed", "published", "recorded",
    "preparing", "prepared", "activated",
)  # fmt: skip
VERSION = "fallback-2"


def publish_all(root: Path, progress: Callable[[str], None]) -> None:
    """Publish the shipped models and have them serve."""
    with open_writer(root, "about to die") as writer:
        progress("opened")
        for model in MODELS:
            writer.publish(SHIPPED / model, "a test", "operator", progress)
            promote(writer, model, VERSION, "a test", "operator", progress=progress)


def run(root: Path, seconds: float, hold_at: tuple[str, int] | None) -> str:
    """A run in a process of its own, killed after `seconds`, or while it stands still after the n-th time of a step.

    Returns the last step that it had done.
    """
    read, tell = os.pipe()
    child = os.fork()
    if not child:
        done: Counter[str] = Counter()

        def progress(step: str) -> None:
            os.write(tell, f"{step}\n".encode())
            done[step] += 1
            if hold_at == (step, done[step]):
                os.write(tell, b"holding\n")
                signal.pause()

        try:
            publish_all(root, progress)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(tell)
    with os.fdopen(read) as steps:
        told: list[str] = []
        if hold_at:
            while "holding" not in told:
                told.append(steps.readline().strip())
        else:
            time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        told += steps.read().split()
    if not os.WIFSIGNALED(status):
        return "not killed"
    return next((step for step in reversed(told) if step != "holding"), "started")


def assert_reads_cleanly(layout: Layout) -> None:
    """What every reader sees is whole."""
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
    begun = time.monotonic()
    publish_all(tmp_path / "whole", lambda _: None)
    whole = time.monotonic() - begun
    hits: Counter[str] = Counter()
    number = 0
    while hits.total() - hits["not killed"] < DEATHS or any(hits[step] < HITS for step in STEPS):
        assert number < 3 * DEATHS, f"some step is never hit: {hits}"
        layout = Layout(tmp_path / str(number))
        # Half at any instant, half right after a step: some are so short that chance would hardly hit them.
        step = STEPS[number // 2 % len(STEPS)]
        times = 1 if step == "opened" else chance.randint(1, len(MODELS))
        hits[run(layout.root, chance.uniform(0, whole), (step, times) if number % 2 else None)] += 1
        assert_reads_cleanly(layout)
        publish_all(layout.root, lambda _: None)
        assert_complete(layout)
        shutil.rmtree(layout.root)
        number += 1
    print(f"{DEATHS} deaths, after: {dict(hits)}")
