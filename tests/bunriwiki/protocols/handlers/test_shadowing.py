from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bunriwiki.artifacts.answers import Answers, Detection, Detections, Failure, ImageSize
from bunriwiki.model_store.heartbeats import Shadowed
from bunriwiki.protocols.handlers.shadowing import Comparisons, Shadow, differing
from tests.bunriwiki.protocols.fakes import classified

pytestmark = pytest.mark.anyio

SIZE = ImageSize(width=4, height=3)


def found(*labels: str, score: float = 0.5) -> Detections:
    boxes = [Detection(label=label, label_ko="가", score=score, box=(0, 0, 1, 1)) for label in labels]
    return Detections(detections=tuple(boxes), image=SIZE)


def failure(kind: Any = "internal") -> Failure:
    return Failure(kind=kind, message="No.")


@pytest.mark.parametrize(
    ("answer", "other", "differs"),
    [
        (classified("a"), classified("a"), False),
        (classified("a"), classified("b"), True),
        (found("can", "paper"), found("paper", "can", score=0.9), False),
        (found("can", "can"), found("can"), True),
        (found("can"), found("paper"), True),
        (failure("broken"), failure("broken"), False),
        (classified("a"), failure(), True),
        (failure(), found(), True),
    ],
)
def test_answers_differ_in_their_classes(answer: Any, other: Any, differs: bool) -> None:
    assert differing([answer, answer], [other, answer]) == int(differs)


class Copied:
    """A model whose copies get `answer`."""

    def __init__(self, answer: Answers[Any] | Exception, seconds: float = 0, deadline: float = 5) -> None:
        self.calls: list[tuple[list[str], str]] = []
        self.comparisons = Comparisons()
        self.answer = answer
        self.seconds = seconds
        self.shadow = Shadow[str]("kcbert", self.predict, self.comparisons, deadline)

    async def predict(self, batch: list[str], version: str) -> Answers[Any]:
        self.calls.append((batch, version))
        await asyncio.sleep(self.seconds)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def copy(self, *texts: str) -> None:
        answers = Answers(model="kcbert", version="v1", results=(classified("a"),) * len(texts))
        self.shadow.copy(list(texts), answers, "v2")
        await asyncio.sleep(0)

    async def finished(self) -> Shadowed | None:
        assert self.shadow._task
        await self.shadow._task
        return self.comparisons.figures()["shadowed"].get("kcbert:v2")


def answers(*labels: str, version: str = "v2") -> Answers[Any]:
    return Answers(model="kcbert", version=version, results=tuple(classified(label) for label in labels))


async def test_comparisons_add_up() -> None:
    copied = Copied(answers("a", "b"))
    for _ in range(2):
        await copied.copy("가", "나")
        await copied.finished()
    assert await copied.finished() == Shadowed(inputs=4, differing=2)


async def test_one_copy_at_a_time() -> None:
    copied = Copied(answers("a"), seconds=0.05)
    for text in "가나다":
        await copied.copy(text)
    assert await copied.finished() == Shadowed(inputs=1, differing=0)
    assert copied.calls == [(["가"], "v2")]
    await copied.copy("라")
    await copied.finished()
    assert len(copied.calls) == 2


@pytest.mark.parametrize("answer", [OSError("closed"), answers(version="v1")])
async def test_a_copy_that_is_not_answered_is_not_compared(answer: Any) -> None:
    copied = Copied(answer)
    await copied.copy("가")
    assert await copied.finished() is None
    assert len(copied.calls) == 1


async def test_a_copy_that_is_stuck_is_cancelled() -> None:
    copied = Copied(answers("a"), seconds=5, deadline=0.01)
    await copied.copy("가")
    assert await copied.finished() is None
    await copied.copy("나")
    assert await copied.finished() is None
    assert len(copied.calls) == 2


def test_old_versions_are_removed() -> None:
    comparisons = Comparisons()
    for number in range(Comparisons.MAX + 2):
        comparisons.add("kcbert", f"v{number}", 1, 0)
    assert len(comparisons.figures()["shadowed"]) == Comparisons.MAX
    assert "kcbert:v1" not in comparisons.figures()["shadowed"]
