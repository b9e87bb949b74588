from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from bunriwiki.artifacts.answers import Answers, Classification, Failure
from bunriwiki.model_store.heartbeats import Served
from runners.serving_statistics import ServingStatistics

BROKEN = Failure(kind="broken", message="The image is damaged.")
INTERNAL = Failure(kind="internal", message="The model could not answer.")


def answering(*results: object) -> Answers[object]:
    return Answers(model="yolo", version="v1", results=results)


def raising(batch: Sequence[str]) -> Answers[object]:
    raise ValueError("no such feature")


def served(statistics: ServingStatistics, version: str = "v1") -> tuple[int, int, int]:
    found: Served = statistics.figures()["served"][version]
    return found.inputs, found.failures, found.batches


def test_inputs_and_batches_are_counted_by_version() -> None:
    statistics = ServingStatistics()
    for version, batch in (("v1", "ab"), ("v1", "c"), ("v2", "d")):
        answers = answering(*batch)
        assert statistics.count(version, list(batch), lambda _, answers=answers: answers) is answers  # type: ignore[misc]
    assert (served(statistics), served(statistics, "v2")) == ((3, 0, 2), (1, 0, 1))


def test_an_invalid_input_is_no_failure() -> None:
    statistics = ServingStatistics()
    statistics.count("v1", ["a", "b", "c"], lambda _: answering("fine", BROKEN, INTERNAL))
    assert served(statistics) == (3, 1, 1)


def test_a_batch_that_raises_failed_as_a_whole() -> None:
    statistics = ServingStatistics()
    with pytest.raises(ValueError, match="no such feature"):
        statistics.count("v1", ["a", "b"], raising)
    assert served(statistics) == (2, 2, 1)
    assert statistics.figures()["busy_with"] is None


def test_the_seconds_between_batches_do_not_count() -> None:
    now = [100.0]
    statistics = ServingStatistics(lambda: now[0], lambda: 0.0)

    def slowly(batch: Sequence[str]) -> Answers[object]:
        now[0] += 0.02
        return answering("fine")

    for _ in range(3):
        statistics.count("v1", ["a"], slowly)
        now[0] += 0.05
    assert statistics.figures()["served"]["v1"].seconds == pytest.approx(0.06)


def test_the_time_in_which_a_batch_waits_for_a_core_is_counted_apart() -> None:
    now, waited = [100.0], [7.0]
    statistics = ServingStatistics(lambda: now[0], lambda: waited[0])

    def interrupted(batch: Sequence[str]) -> Answers[object]:
        now[0] += 0.5
        waited[0] += 0.3
        return answering("fine")

    for _ in range(2):
        statistics.count("v1", ["a"], interrupted)
    found: Served = statistics.figures()["served"]["v1"]
    assert [found.seconds, found.waited, found.squares] == pytest.approx([0.4, 0.6, 0.08])


def test_it_reports_the_oldest_batch_under_way() -> None:
    statistics, begun, over = ServingStatistics(), threading.Event(), threading.Event()

    def stuck(batch: Sequence[str]) -> Answers[object]:
        begun.set()
        over.wait(10)
        return answering("fine")

    assert statistics.figures()["busy_since"] is None
    thread = threading.Thread(target=statistics.count, args=("v2", ["a"], stuck))
    thread.start()
    assert begun.wait(10)
    assert statistics.figures()["busy_with"] == "v2"
    assert statistics.figures()["busy_since"] == pytest.approx(time.time(), abs=5)
    statistics.count("v3", ["a"], lambda _: answering("fine"))  # while the other batch is past its deadline
    assert statistics.figures()["busy_with"] == "v2"
    over.set()
    thread.join()
    assert statistics.figures()["busy_with"] is None


def test_old_versions_are_dropped() -> None:
    statistics = ServingStatistics()
    for number in range(ServingStatistics.MAX_VERSIONS + 3):
        statistics.count(f"v{number}", ["a"], lambda _: answering("fine"))
    assert list(statistics.figures()["served"]) == [f"v{number}" for number in range(3, ServingStatistics.MAX_VERSIONS + 3)]


def test_features_are_counted_by_version() -> None:
    statistics = ServingStatistics()
    text = Classification("none", 0.9, {"none": 0.9})
    for version, results in (("v1", (text, BROKEN)), ("v1", (text, text)), ("v2", (text, text))):
        answers = Answers("kcbert", version, results, measured={"unknown_tokens": [0.0, 1.0]})
        statistics.count(version, ["ab", "abcdef"], lambda _, answers=answers: answers)  # type: ignore[misc]
    with pytest.raises(ValueError, match="no such feature"):
        statistics.count("v1", ["a", "b"], raising)
    found = statistics.figures()["observed"]
    assert found["v1"] == {
        "label": {"none": 3}, "score": {"0.9": 3}, "text_length": {"0": 2, "4": 1}, "unknown_tokens": {"0": 2, "0.75": 1},
    }  # fmt: skip
    assert found["v2"]["text_length"] == {"0": 1, "4": 1}


def test_features_are_forgotten_with_their_version() -> None:
    statistics = ServingStatistics()
    for number in range(statistics.MAX_VERSIONS + 3):
        answers = Answers("kcbert", f"v{number}", (Classification("none", 0.9, {}),))
        statistics.count(f"v{number}", ["a"], lambda _, answers=answers: answers)  # type: ignore[misc]
    figures = statistics.figures()
    assert figures["observed"].keys() == figures["served"].keys()
    assert len(figures["observed"]) == statistics.MAX_VERSIONS
