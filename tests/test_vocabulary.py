"""Names that were given up stay given up, in code and in docs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bunriwiki.testing.paths import ROOT

PACKAGES = ("benchmarks", "bunriwiki", "demo", "docs", "examples", "model_sync", "runners", "tests", "training")
SUFFIXES = {".md", ".py", ".toml", ".yaml"}
ABOUT_OLD_NAMES = {"CHANGELOG.md", "test_vocabulary.py"}

IDENTIFIERS = [
    "RestDoor",
    "GrpcDoor",
    "ModelFollower",
    "Follower",
    "RolloverError",
    "roll_over",
    "before_flip",
    "flipped",
    "Asker",
    "Looks",
    "Verdict",
    "CanaryTrial",
    "Observation",
    "Standing",
    "ModelStanding",
    "SidecarStanding",
    "Tally",
    "Teller",
    "Turns",
    "Pace",
    "RefusedError",
    "RefusingError",
    "UnfitError",
    "ToldUnfitError",
    "BrokeOffError",
    "StoppedError",
    "run_contained",
    "take_over",
    "untold",
    "HopServer",
    "HOP_FD",
    "most_at_once",
    "most_waiting",
    "max_waiting",
    "has_looked",
]
PARTS = [r"MOST_[A-Z]+", r"LEAST_[A-Z]+", r"\w*_refused\b", r"refused_\w*", r"\w*_told\b", r"\w*_verdict\w*"]
SETTINGS = [
    "DEADLINE", "DRAIN", "START_WAIT", "POLL_INTERVAL", "MAX_RSS", "MAX_WAITING", "IMPORT_MEMORY", "IMPORT_DISK",
    "IMPORT_RESERVE", "LEAST_SPEED", "WATCH", "WATCH_REQUESTS", "WATCH_ERRORS", "WATCH_LATENCY", "WATCH_STUCK", "GATE_QUALITY",
    "GATE_LATENCY", "GATE_BATCH", "CANARY", "SHADOW_DIFFERENCES",
]  # fmt: skip
TERMS = [
    r"the door\b", r"\bdoors\b", r"\bverdicts?\b", r"\bunfit\b", r"\broll(s|ed)? over\b", r"\brollover\b", r"\bthe hop\b",
    r"a look at the registr", r"\bnext look\b", r"\bmodel_sync/(looks|lines|following|contained|standing|watch)\.py",
]  # fmt: skip

OLD = re.compile(
    "|".join(
        [
            rf"(?<!\w)({'|'.join(IDENTIFIERS)})(?!\w)",
            *(rf"(?<![A-Za-z0-9]){part}" for part in PARTS),
            *(rf"BUNRIWIKI_{name}(?![A-Z_])" for name in SETTINGS),
            *TERMS,
        ]
    )
)


def files() -> Iterator[Path]:
    yield from (path for path in ROOT.iterdir() if path.suffix in SUFFIXES)
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.suffix in SUFFIXES and "_pb2" not in path.name and "node_modules" not in path.parts:
                yield path


@pytest.mark.parametrize("old", ["RestDoor", "MOST_BYTES", "BUNRIWIKI_DRAIN", "the door", "before_flip", "test_it_is_refused"])
def test_an_old_name_is_found(old: str) -> None:
    assert OLD.search(f"x {old} y")


@pytest.mark.parametrize(
    "new", ["RestServer", "MAX_BYTES", "BUNRIWIKI_DRAIN_SECONDS", "indoors", "connection refused", "Standings"]
)
def test_a_new_name_or_another_word_is_not(new: str) -> None:
    assert not OLD.search(f"x {new} y")


@pytest.mark.slow
def test_no_file_has_an_old_name() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in files()
        if path.name not in ABOUT_OLD_NAMES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (match := OLD.search(line))
    ]
    assert found == []
