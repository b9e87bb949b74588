from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from bunriwiki.model_store.layout import Layout
from bunriwiki.telemetry.sample_folder import SampleFolder
from bunriwiki.testing.paths import MODELS
from bunriwiki.testing.versions import BUNDLED_VERSION
from bunriwiki.web.tickets import TicketReader, ticket_issuer
from model_sync.errors import FeedbackError
from model_sync.quality.accuracy import Rated
from model_sync.quality.feedback import Feedback
from model_sync.quality.feedback_store import FeedbackStore

KEY = "k" * 32
ISSUER = ticket_issuer(KEY, 60)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeedbackStore]:
    store = FeedbackStore(tmp_path / "feedback.db")
    yield store
    store.close()


@pytest.fixture
def samples(tmp_path: Path) -> SampleFolder:
    return SampleFolder(tmp_path / "samples", 1, 2**20)


@pytest.fixture
def feedback(store: FeedbackStore, samples: SampleFolder, tmp_path: Path) -> Feedback:
    return Feedback(store, TicketReader([KEY]), Layout(tmp_path / "store"), MODELS, samples)


def ticket(model: str = "sentiment", version: str = BUNDLED_VERSION, label: str = "긍정", request: str = "a-request") -> str:
    return ISSUER(model, version, [(label, 0.9)], request) or ""


def kind(feedback: Feedback, ticket: str, *labels: str) -> str:
    with pytest.raises(FeedbackError) as caught:
        feedback.give(ticket, labels, known=True)
    return caught.value.kind


def test_feedback_is_kept(feedback: Feedback) -> None:
    assert feedback.give(ticket(), ["긍정"], known=True)
    assert not feedback.give(ticket(), ["부정"], known=True)
    assert not feedback.give(ticket(), ["부정"], known=False)
    assert feedback.rated("sentiment", BUNDLED_VERSION, 0) == Rated(2, 1)


def test_photos_have_any_number_of_classes(feedback: Feedback) -> None:
    for right in ([], ["plastic"], ["glass", "plastic"]):
        assert feedback.give(ticket("yolo", label="plastic"), right, known=True) == (right == ["plastic"])


def test_wrong_feedback_costs_no_ticket(feedback: Feedback) -> None:
    once = ticket()
    assert kind(feedback, once, "좋음") == "wrong"
    assert kind(feedback, once) == kind(feedback, once, "긍정", "부정") == "wrong"
    assert feedback.give(once, ["긍정"], known=True)
    assert kind(feedback, once, "긍정") == "used"


def test_tickets_of_others(feedback: Feedback, store: FeedbackStore, tmp_path: Path) -> None:
    assert kind(feedback, "no ticket", "긍정") == "invalid"
    assert kind(feedback, ticket_issuer("x" * 32, 60)("sentiment", BUNDLED_VERSION, [], "") or "", "긍정") == "invalid"
    assert kind(feedback, ticket_issuer(KEY, -60)("sentiment", BUNDLED_VERSION, [], "") or "", "긍정") == "expired"
    assert kind(feedback, ticket(version="v9"), "긍정") == "expired"  # the store has no such version any more
    assert kind(Feedback(store, None, Layout(tmp_path), MODELS), ticket(), "긍정") == "closed"


def test_the_classes_are_those_of_the_version(feedback: Feedback, tmp_path: Path) -> None:
    folder = tmp_path / "store" / "models" / "sentiment" / "v1"
    folder.mkdir(parents=True)
    text = (MODELS / "sentiment" / "manifest.yaml").read_text(encoding="utf-8")
    (folder / "manifest.yaml").write_text(
        text.replace("name: 긍정", "name: 좋음").replace(f"version: {BUNDLED_VERSION}", "version: v1")
    )
    assert feedback.give(ticket(version="v1", label="좋음"), ["좋음"], known=True)
    assert kind(feedback, ticket(version="v1"), "긍정") == "wrong"
    shutil.rmtree(folder)


def test_all_of_a_request_is_deleted(feedback: Feedback, samples: SampleFolder) -> None:
    feedback.give(ticket(), ["긍정"], known=True)
    samples.write("sentiment", "a-request", {})
    assert feedback.forget("a-request") == (1, 1)
    assert feedback.forget("a-request") == (0, 0)


def test_a_database_that_cannot_be_read_rates_nothing(feedback: Feedback, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> Rated:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(FeedbackStore, "rated", failing)
    assert feedback.rated("sentiment", BUNDLED_VERSION, 0) == Rated()
