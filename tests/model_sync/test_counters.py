from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_sync.counters import MAX_REMEMBERED, SignatureCounters
from model_sync.errors import ImportEnvironmentError, ReplayedError
from tests.model_sync.fakes import offer


def test_an_older_signature_is_a_replay_also_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "signatures.json"
    counters = SignatureCounters(path)
    counters.require(offer(), 0)
    counters.record(offer("v1", "d1"), 5)
    counters.record(offer("v2", "d2"), 9)
    again = SignatureCounters(path)
    again.require(offer("v2", "d2"), 9)
    again.require_known(offer("v2", "d2"))
    for replay in (0, 5, 8):
        with pytest.raises(ReplayedError, match=r"accepted before .counter 9."):
            again.require(offer("v1", "d1"), replay)
    with pytest.raises(ReplayedError):
        again.require_known(offer("v1", "d1"))
    with pytest.raises(ReplayedError):
        again.require_known(offer("v0", "never seen"))
    again.require(offer(model="yolo"), 0)  # each model has a counter of its own
    again.record(offer("v1", "d1"), 10)
    again.require_known(offer("v1", "d1"))


def test_the_file_is_bounded_and_the_highest_counter_stays(tmp_path: Path) -> None:
    counters = SignatureCounters(tmp_path / "signatures.json")
    offers = {f"d{number}": 1 for number in range(MAX_REMEMBERED)}
    (tmp_path / "signatures.json").write_text(json.dumps({"models": {"kcbert": {"highest": 5, "offers": offers}}}))
    counters.record(offer("v2", "d2"), 3)
    with pytest.raises(ReplayedError, match="counter 5"):
        counters.require_known(offer("v2", "d2"))

    kept = json.loads((tmp_path / "signatures.json").read_text())["models"]["kcbert"]
    assert (kept["highest"], len(kept["offers"])) == (5, MAX_REMEMBERED)


@pytest.mark.parametrize("text", ["", "{", '{"models": {"kcbert": {"highest": -1}}}'])
def test_a_damaged_file_accepts_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "signatures.json").write_text(text)
    with pytest.raises(ImportEnvironmentError, match="restore it"):
        SignatureCounters(tmp_path / "signatures.json").require(offer(), 10**9)
