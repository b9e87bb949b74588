from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from prometheus_client import REGISTRY

from bunriwiki.artifacts.answers import Failure
from bunriwiki.artifacts.inputs import MAX_CHARACTERS, Photo
from bunriwiki.artifacts.models import KCBERT, SENTIMENT, YOLO
from bunriwiki.ipc.client import ConnectionLostError
from bunriwiki.ipc.frames import BatchError, BrokenFrameError
from bunriwiki.model_store.heartbeats import Shadowed
from bunriwiki.protocols.handlers import dataplane
from bunriwiki.protocols.handlers.dataplane import RETRY_SECONDS
from bunriwiki.protocols.handlers.shadowing import Comparisons
from bunriwiki.protocols.handlers.timing import RequestTiming
from bunriwiki.telemetry.metrics.gauges import publish
from bunriwiki.telemetry.metrics.requests import RouteMetrics
from bunriwiki.testing.hostile_images import flat_png
from bunriwiki.web.problems import RequestError
from tests.bunriwiki.protocols.fakes import DETECTIONS, FakeRoute, FakeRunner, FakeStatus, classified, failing, model, plane

pytestmark = pytest.mark.anyio


async def status_of(work: Any) -> int:
    with pytest.raises(RequestError) as caught:
        await work
    assert caught.value.detail.endswith((".", "again."))
    return caught.value.status


async def test_an_answer_names_what_gave_it(bottle: bytes) -> None:
    [served] = await plane().infer(YOLO, [Photo(data=bottle)])
    assert (served.model, served.version, served.answer) == ("fake", "v7", DETECTIONS)


async def test_texts_reach_their_own_model() -> None:
    kcbert, sentiment = FakeRunner(classified()), FakeRunner(classified("긍정"))
    one = plane(kcbert=kcbert, sentiment=sentiment)
    assert (await one.infer(KCBERT, ["가"]))[0].answer.label == "none"
    assert (await one.infer(SENTIMENT, ["나"]))[0].answer.label == "긍정"
    assert (kcbert.batches, sentiment.batches) == ([["가"]], [["나"]])


@pytest.mark.parametrize(("text", "status"), [("", 422), (" \n", 422), ("가" * (MAX_CHARACTERS + 1), 413)])
async def test_a_bad_text_costs_no_call(text: str, status: int) -> None:
    runner = FakeRunner(classified())
    assert await status_of(plane(kcbert=runner).infer(KCBERT, [text])) == status
    assert runner.batches == []


async def test_the_longest_text_is_accepted() -> None:
    assert await plane().infer(KCBERT, ["가" * MAX_CHARACTERS])


@pytest.mark.parametrize(("data", "status"), [(b"no image", 415), (b"\x89PNG", 400)])
async def test_a_bad_image_costs_no_call(data: bytes, status: int) -> None:
    runner = FakeRunner(DETECTIONS)
    assert await status_of(plane(yolo=runner).infer(YOLO, [Photo(data=data)])) == status
    assert runner.batches == []


async def test_the_photos_of_a_call_have_a_budget_together() -> None:
    runner = FakeRunner(DETECTIONS)
    one = plane(yolo=runner, max_queue_size=200)
    photo = Photo(data=flat_png(2000, 1000))
    assert len(await one.infer(YOLO, [photo] * 128)) == 128
    batches = len(runner.batches)
    with pytest.raises(RequestError, match="more than 256 megapixels together") as caught:
        await one.infer(YOLO, [photo] * 127 + [Photo(data=flat_png(2001, 1000))])
    assert caught.value.status == 413
    assert len(runner.batches) == batches


async def test_a_call_of_small_files_of_large_pictures_costs_no_call() -> None:
    runner = FakeRunner(DETECTIONS)
    assert (
        await status_of(plane(yolo=runner, max_queue_size=200).infer(YOLO, [Photo(data=flat_png(10_000, 5_000))] * 128)) == 413
    )
    assert runner.batches == []


async def test_a_batch_has_one_of_the_most_expensive_photos_or_as_many_of_others_as_cost_no_more() -> None:
    runner = FakeRunner(DETECTIONS)
    expensive, small = Photo(data=flat_png(4000, 3000)), Photo(data=flat_png(40, 30))
    await model(runner, spec=YOLO).infer([expensive, expensive, small, small, small, small, small])
    assert runner.batches == [[expensive], [expensive], [small] * 4, [small]]


async def test_the_photos_that_wait_have_a_budget_together() -> None:
    one = model(FakeRunner(DETECTIONS, seconds=0.02), spec=YOLO, max_queue_cost=6_000_000)
    photos = [Photo(data=flat_png(2000, 1000))] * 2
    called = asyncio.create_task(one.infer(photos))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(one.infer(photos))
    await asyncio.sleep(0)
    with pytest.raises(RequestError) as caught:
        await one.infer([*photos, *photos[1:]])
    assert caught.value.status == 503
    assert caught.value.headers["Retry-After"] == "1"
    assert len(await called) == len(await waiting) == 2


async def test_while_many_inputs_are_checked_other_requests_get_their_turn(
    bottle: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def turns(seconds: float) -> int:
        monkeypatch.setattr(dataplane, "CHECK_SECONDS", seconds)
        runner, count = FakeRunner(DETECTIONS), 0
        many = asyncio.create_task(plane(yolo=runner).infer(YOLO, [Photo(data=bottle)] * 4))
        while not runner.batches:
            await asyncio.sleep(0)
            count += 1
        await many
        return count

    assert await turns(-1.0) == await turns(60.0) + 4


async def test_a_failure_of_one_input_is_its_own() -> None:
    one = model(FakeRunner(lambda text: failing(text) if text == "bad" else classified(text)))
    results: list[Any] = await asyncio.gather(one.infer(["good"]), one.infer(["bad"]), return_exceptions=True)
    good, bad = results
    assert good[0].answer.label == "good"
    assert isinstance(bad, RequestError)
    assert bad.status == 400


async def test_a_lost_connection_is_tried_once_more() -> None:
    runner = FakeRunner(classified(), failures=[ConnectionLostError("it died")])
    assert (await model(runner).infer(["가"]))[0].version == "v7"
    assert len(runner.batches) == 2


async def test_a_batch_waits_for_a_worker_that_has_its_version() -> None:
    runner, route = FakeRunner(classified()), FakeRoute("v8", patience=3)
    waiting = asyncio.create_task(model(runner, route).infer(["가"]))
    await asyncio.sleep(RETRY_SECONDS)
    runner.versions = ["v7", "v8"]
    assert (await waiting)[0].version == "v8"
    assert route.answers == ["v8"]


async def test_a_version_that_nobody_has_is_replaced_by_one_that_is_there() -> None:
    runner, route = FakeRunner(classified()), FakeRoute("v8", patience=2)
    assert (await model(runner, route).infer(["가"]))[0].version == "v7"
    assert len(runner.batches) == 4
    assert route.answers == ["v7"]


@pytest.mark.parametrize(
    "failures",
    [
        [ConnectionLostError("it died"), ConnectionLostError("it died")],
        [BrokenFrameError("not answers")],
        [BatchError("no such feature")],
        [TimeoutError()],
    ],
)
async def test_a_runner_that_does_not_answer_is_unavailable(failures: list[Exception]) -> None:
    with pytest.raises(RequestError) as caught:
        await model(FakeRunner(classified(), failures=failures)).infer(["가"])
    assert caught.value.status == 503
    assert caught.value.headers["Retry-After"] == "1"


async def test_a_call_past_its_deadline_costs_no_forward_pass() -> None:
    runner = FakeRunner(classified(), seconds=0.2)
    one = model(runner)
    assert await status_of(one.infer(["가"], seconds=0)) == 504
    assert runner.batches == []
    busy = asyncio.create_task(one.infer(["가"]))
    await asyncio.sleep(0.01)
    assert await status_of(one.infer(["나"], seconds=0.05)) == 504
    await busy
    await asyncio.sleep(0.01)
    assert runner.batches == [["가"]]


async def test_a_call_in_the_middle_of_a_swap_is_answered_by_one_version() -> None:
    runner, route = FakeRunner(classified(), seconds=0.05), FakeRoute("v7")
    runner.versions = ["v7", "v8"]
    waiting = asyncio.create_task(model(runner, route).infer(list("abcdef")))  # two batches
    await asyncio.sleep(0.01)
    route.serving = "v8"
    assert [one.version for one in await waiting] == ["v8"] * 6


async def test_what_a_canary_answers_carries_its_version() -> None:
    runner = FakeRunner(classified())
    runner.versions = ["v7", "v8"]
    one = model(runner, FakeRoute(canaries=["v8"]))
    assert [(await one.infer(["가"]))[0].version for _ in range(2)] == ["v8", "v7"]


async def test_a_batch_whose_worker_has_no_canary_is_answered_by_what_serves() -> None:
    runner = FakeRunner(classified())
    assert (await model(runner, FakeRoute(patience=1, canaries=["v8"])).infer(["가"]))[0].version == "v7"
    assert len(runner.batches) == 2


async def test_a_call_of_many_batches_is_answered_by_one_version_beside_a_canary() -> None:
    runner = FakeRunner(classified())
    runner.versions = ["v7", "v8"]
    route = FakeRoute(canaries=["v7", "v8"] * 50)
    assert [one.version for one in await model(runner, route).infer(list("abcdef"))] == ["v7"] * 6
    assert len(runner.batches) == 4


async def test_a_call_that_names_what_serves_is_not_answered_by_a_canary() -> None:
    runner = FakeRunner(classified())
    runner.versions = ["v7", "v8"]
    assert (await model(runner, FakeRoute(canaries=["v8"])).infer(["가"], version="v7"))[0].version == "v7"


async def test_a_shadow_gets_copies_and_clients_wait_for_none() -> None:
    runner, comparisons = FakeRunner(classified(), seconds=0.02), Comparisons()
    runner.versions = ["v7", "v8"]
    one = model(runner, FakeRoute(shadow_version="v8"), comparisons=comparisons)
    assert [(await one.infer(["가"]))[0].version for _ in range(2)] == ["v7", "v7"]
    assert len(runner.batches) == 3  # the copy of the first; the second one's was dropped
    await asyncio.sleep(0.05)
    assert comparisons.figures() == {"shadowed": {"kcbert:v8": Shadowed(inputs=1, differing=0)}}


async def test_a_named_version_has_the_same_limits() -> None:
    runner = FakeRunner(classified(), seconds=0.1)
    runner.versions = ["v6", "v7"]
    one = model(runner, max_queue_size=2)
    calls = [one.infer(["가"], version="v6") for _ in range(4)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [result.status for result in results if isinstance(result, RequestError)] == [503]
    assert await status_of(one.infer(list("가나다"), version="v6")) == 413
    assert await status_of(one.infer(["가"], version="v6", seconds=0.01)) == 504
    assert await status_of(one.infer(["가"], version="v5")) == 404


async def test_overload_and_deadline() -> None:
    one = model(FakeRunner(classified(), seconds=0.2), max_queue_size=1, deadline=0.05)
    results = await asyncio.gather(*(one.infer(["가"]) for _ in range(3)), return_exceptions=True)
    assert [result.status for result in results if isinstance(result, RequestError)] == [504, 504, 503]


async def test_readiness_names_what_is_missing() -> None:
    cold, gone = FakeRunner(classified()), FakeRunner(classified())
    cold.warm = False
    gone.warm = False
    one = plane(kcbert=cold, sentiment=gone)
    assert await one.unready() == ["kcbert has no warm model", "sentiment has no warm model"]
    one.draining = True
    assert await one.unready() == ["the service is shutting down"]
    assert await plane().unready() == []


@pytest.mark.anyio
async def test_the_start_waits_for_the_first_sync() -> None:
    one = plane()
    status = FakeStatus()
    status.waits_for = "the sidecar is late"
    one._status = status
    assert await one.unready() == ["the sidecar is late"]


def counted(name: str, **labels: str) -> float:
    """The value of a metric of kcbert."""
    return REGISTRY.get_sample_value(f"bunriwiki_{name}", {"model": "kcbert", **labels}) or 0.0


class Counted:
    """What was counted since its creation: predictions and failures of `version`, and shed requests."""

    REASONS = ("invalid_input", "overloaded", "deadline", "runner_lost", "model_error")

    def __init__(self, version: str = "v7") -> None:
        self._version = version
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        failures = {one: counted("prediction_failures_total", version=self._version, reason=one) for one in self.REASONS}
        shed = {f"shed {one}": counted("shed_requests_total", reason=one) for one in ("queue_full", "deadline", "memory")}
        return {"inputs": counted("predictions_total", version=self._version), **failures, **shed}

    def since(self) -> dict[str, float]:
        return {name: value - self._before[name] for name, value in self._now().items() if value != self._before[name]}


async def test_answers_are_counted_for_the_version_that_gave_them() -> None:
    runner, serving, canary = FakeRunner(classified()), Counted("v7"), Counted("v8")
    runner.versions = ["v7", "v8"]
    publish()
    calls, inputs = counted("batch_size_count"), counted("batch_size_sum")
    one = model(runner, FakeRoute(canaries=["v8"]))
    await one.infer(["가", "나"])
    await one.infer(["가"])
    assert (serving.since(), canary.since()) == ({"inputs": 1}, {"inputs": 2})
    publish()
    assert (counted("batch_size_count") - calls, counted("batch_size_sum") - inputs) == (2, 3)


async def test_inputs_that_wait_are_the_depth_of_the_queue() -> None:
    runner = FakeRunner(classified(), seconds=0.01)
    runner.versions = ["v6", "v7"]
    one = model(runner)
    requests = [asyncio.create_task(one.infer(["가", "나"], version)) for version in (None, None, "v6", "v6")]
    while one.waiting() < 4:
        await asyncio.sleep(0)
    publish()
    assert counted("queue_depth") == 4
    await asyncio.gather(*requests)
    publish()
    assert counted("queue_depth") == 0


async def test_a_request_knows_how_long_its_inputs_waited_for_their_call() -> None:
    one = model(FakeRunner(classified(), seconds=0.03))
    timings = [RequestTiming(RouteMetrics("/waits", "rest"), "POST", time.perf_counter()) for _ in range(2)]
    await asyncio.gather(*(one.infer(["가"], timing=timing) for timing in timings))
    [first, second] = [timing.answer for timing in timings]
    assert first is not None
    assert second is not None
    assert 0 < first[5] < 0.02 < second[5] < second[4] - second[3]


async def test_a_second_answer_to_a_request_is_counted_at_once() -> None:
    one, before = model(FakeRunner(classified())), Counted()
    timing = RequestTiming(RouteMetrics("/twice", "rest"), "POST", time.perf_counter())
    await one.infer(["가"], timing=timing)
    assert before.since() == {}
    await one.infer(["가", "나"], timing=timing)
    assert before.since() == {"inputs": 2}
    timing.end(200)
    assert before.since() == {"inputs": 3}


async def test_failures_are_counted_by_their_reason() -> None:
    async def fails(runner: FakeRunner, text: str = "가", **options: Any) -> dict[str, float]:
        before = Counted()
        with pytest.raises(RequestError):
            await model(runner).infer([text], **options)
        return before.since()

    lost, internal = ConnectionLostError("died"), Failure(kind="internal", message="It failed.")
    assert await fails(FakeRunner(classified()), " ") == {"invalid_input": 1}
    assert await fails(FakeRunner(classified()), version="v5") == {"invalid_input": 1}
    assert await fails(FakeRunner(failing)) == {"invalid_input": 1}
    assert await fails(FakeRunner(internal)) == {"model_error": 1}
    assert await fails(FakeRunner(classified(), failures=[BatchError("all")])) == {"model_error": 1}
    assert await fails(FakeRunner(classified(), failures=[lost, lost])) == {"runner_lost": 1}
    assert await fails(FakeRunner(classified(), seconds=0.1), seconds=0.01) == {"deadline": 1}
    assert await fails(FakeRunner(classified()), seconds=-1.0) == {"deadline": 1, "shed deadline": 1}


async def test_a_failure_of_a_canary_is_counted_for_the_canary() -> None:
    runner, serving, canary = FakeRunner(Failure(kind="internal", message="It failed.")), Counted("v7"), Counted("v8")
    runner.versions = ["v7", "v8"]
    with pytest.raises(RequestError):
        await model(runner, FakeRoute(canaries=["v8"])).infer(["가"])
    assert (serving.since(), canary.since()) == ({}, {"model_error": 1})


async def test_rejected_requests_are_counted_as_shed() -> None:
    before = Counted()
    one = model(FakeRunner(classified(), seconds=0.02), max_queue_size=1)
    await asyncio.gather(*(one.infer(["가"]) for _ in range(3)), return_exceptions=True)
    assert before.since() == {"inputs": 2, "overloaded": 1, "shed queue_full": 1}
