from __future__ import annotations

import os
from pathlib import Path

from model_sync.quality.references import UNPUBLISHED_SECONDS, Reference, References

EVALUATION = {"label": {"none": 210}}
LIVE = {"label": {"none": 1000}}


def test_live_traffic_replaces_the_evaluation(tmp_path: Path) -> None:
    references = References(tmp_path / "quality")
    assert references.read("kcbert", "v1") == Reference()
    assert (references.read("kcbert", "v1").current, references.read("kcbert", "v1").kind) == ({}, None)
    references.keep_evaluation("kcbert", "v1", EVALUATION)
    assert (references.read("kcbert", "v1").current, references.read("kcbert", "v1").kind) == (EVALUATION, "evaluation")
    references.keep_live("kcbert", "v1", LIVE)
    assert (references.read("kcbert", "v1").current, references.read("kcbert", "v1").kind) == (LIVE, "live")
    assert references.read("kcbert", "v1").evaluation == EVALUATION
    assert References(tmp_path / "quality").read("kcbert", "v1").kind == "live"  # after a restart


def test_a_version_that_is_evaluated_again_begins_anew(tmp_path: Path) -> None:
    references = References(tmp_path)
    references.keep_live("kcbert", "v1", LIVE)
    references.keep_evaluation("kcbert", "v1", EVALUATION)
    assert references.read("kcbert", "v1").kind == "evaluation"


def test_a_damaged_file_counts_as_none(tmp_path: Path) -> None:
    references = References(tmp_path)
    references.keep_live("kcbert", "v1", LIVE)
    (tmp_path / "kcbert" / "v1.json").write_text("{")
    assert references.read("kcbert", "v1") == Reference()


def test_references_end_with_their_versions(tmp_path: Path) -> None:
    references = References(tmp_path)
    for version in ("v1", "removed", "being-imported"):
        references.keep_evaluation("kcbert", version, EVALUATION)
    (tmp_path / "feedback.db").touch()
    now = (tmp_path / "kcbert" / "v1.json").stat().st_mtime + UNPUBLISHED_SECONDS - 10
    for version in ("v1", "removed"):
        os.utime(tmp_path / "kcbert" / f"{version}.json", (now - 2 * UNPUBLISHED_SECONDS,) * 2)
    references.tidy({"kcbert": {"v1"}}, lambda: now)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "being-imported.json",
        "feedback.db",
        "v1.json",
    ]
