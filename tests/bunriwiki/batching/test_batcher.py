from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import ContextVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bunriwiki.batching.batcher import CALLERS, Batcher, DeadlineExceededError, OverloadedError

pytestmark = pytest.mark.anyio


class SlowCall:
    """Doubles numbers once the gate is open, and keeps the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()

    async def __call__(self, batch: list[int]) -> list[int]:
        self.batches.append(batch)
        await self.gate.wait()
        return [2 * item for item in batch]


def batcher(call: Callable[[list[int]], object], **options: float) -> Batcher[int, int]:
    return Batcher(call, **{"max_batch_size": 4, "max_queue_size": 8, **options})  # type: ignore[arg-type]


async def submit(batcher: Batcher[int, int], item: int, seconds: float) -> int:
    """The result of one item."""
    [result] = await batcher.submit([item], seconds)
    return result


async def test_a_group_is_split_only_by_the_maximum_batch_size() -> None:
    call = SlowCall()
    call.gate.set()
    assert await batcher(call).submit([1, 2, 3, 4, 5, 6], 1) == [2, 4, 6, 8, 10, 12]
    assert call.batches == [[1, 2, 3, 4], [5, 6]]


async def test_a_group_that_exceeds_the_queue_is_rejected_as_a_whole() -> None:
    call = SlowCall()
    with pytest.raises(OverloadedError):
        await batcher(call).submit(list(range(9)), 1)
    assert call.batches == []


async def test_a_group_that_is_cancelled_is_dropped() -> None:
    call = SlowCall()
    queue = batcher(call)
    first = asyncio.create_task(submit(queue, 1, 5))
    await asyncio.sleep(0)
    group = asyncio.create_task(queue.submit([2, 3], 5))
    await asyncio.sleep(0)
    group.cancel()
    call.gate.set()
    assert await first == 2
    assert call.batches == [[1]]


async def test_a_single_item_is_called_at_once() -> None:
    call = SlowCall()
    call.gate.set()
    assert await submit(batcher(call), 3, 1) == 6
    assert call.batches == [[3]]


async def test_waiting_items_are_batched_in_order_up_to_the_maximum() -> None:
    call = SlowCall()
    queue = batcher(call)
    tasks = [asyncio.create_task(submit(queue, item, 5)) for item in range(7)]
    await asyncio.sleep(0)
    call.gate.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10, 12]
    assert call.batches == [[0], [1, 2, 3, 4], [5, 6]]


async def test_parallel_calls() -> None:
    call = SlowCall()
    queue = batcher(call, parallel=2)
    tasks = [asyncio.create_task(submit(queue, item, 5)) for item in range(4)]
    await asyncio.sleep(0.01)
    assert call.batches == [[0], [1]]
    call.gate.set()
    await asyncio.gather(*tasks)
    assert call.batches == [[0], [1], [2, 3]]


async def test_a_full_queue_rejects_items() -> None:
    call = SlowCall()
    queue = batcher(call, max_queue_size=2)
    tasks = [asyncio.create_task(submit(queue, item, 5)) for item in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError) as caught:
        await submit(queue, 9, 5)
    assert caught.value.retry_after == 1
    call.gate.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4]


async def test_the_time_until_the_queue_has_room_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, gate, latencies = asyncio.get_running_loop(), asyncio.Event(), [100.0, 60.0]
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)

    async def call(batch: list[int]) -> list[int]:
        nonlocal now
        if latencies:
            now += latencies.pop(0)
        else:
            await gate.wait()
        return batch

    queue = batcher(call, max_batch_size=2, max_queue_size=4, parallel=2)
    await queue.submit([1, 2], 1000)  # 50 s per item: the average, which was 0 s, becomes 10 s
    await queue.submit([1, 2], 1000)  # 30 s per item: it becomes 14 s
    tasks = [asyncio.create_task(queue.submit([1, 2], 1000)) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError) as caught:
        await submit(queue, 9, 1000)
    assert caught.value.retry_after == 28  # four items wait, for two calls at once
    assert str(caught.value) == "the queue is full; try again in 28 s"
    gate.set()
    await asyncio.gather(*tasks)


async def test_cancelled_items_make_room_in_the_queue() -> None:
    call = SlowCall()
    queue = batcher(call, max_queue_size=2)
    tasks = [asyncio.create_task(submit(queue, item, 5)) for item in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.sleep(0)
    late = asyncio.create_task(submit(queue, 9, 5))
    await asyncio.sleep(0)
    call.gate.set()
    assert await late == 18


async def test_a_cancelled_item_costs_no_call() -> None:
    call = SlowCall()
    queue = batcher(call)
    tasks = [asyncio.create_task(submit(queue, item, 5)) for item in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.sleep(0)
    call.gate.set()
    assert await tasks[2] == 4
    assert call.batches == [[0], [2]]


async def test_an_item_past_its_deadline_costs_no_call() -> None:
    call = SlowCall()
    queue = batcher(call)
    first = asyncio.create_task(submit(queue, 0, 5))
    late = asyncio.create_task(submit(queue, 1, 0.01))
    with pytest.raises(DeadlineExceededError):
        await late
    call.gate.set()
    assert await first == 0
    assert call.batches == [[0]]


async def test_a_failing_call_fails_its_own_items_only() -> None:
    calls: list[list[int]] = []

    async def call(batch: list[int]) -> list[int]:
        calls.append(batch)
        await asyncio.sleep(0)
        if 1 in batch:
            raise RuntimeError("no")
        return batch

    queue = batcher(call, max_batch_size=2)
    results = await asyncio.gather(*(submit(queue, item, 5) for item in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [int, RuntimeError, RuntimeError, int, int]
    assert await submit(queue, 7, 5) == 7


async def test_a_call_that_returns_too_few_results_fails_its_items() -> None:
    async def call(batch: list[int]) -> list[int]:
        return batch[1:]

    with pytest.raises(ValueError, match="shorter"):
        await submit(batcher(call), 1, 5)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["wait", "cancel", "expire"])), max_size=30),
    st.integers(1, 5),
    st.integers(1, 3),
)
def test_every_item_gets_its_own_answer_whatever_the_others_do(
    plan: list[tuple[int, str]], max_batch_size: int, parallel: int
) -> None:
    async def run() -> None:
        seen: list[int] = []

        async def call(batch: list[int]) -> list[int]:
            assert 0 < len(batch) <= max_batch_size
            seen.extend(batch)
            await asyncio.sleep(0.001)
            return [2 * item for item in batch]

        queue = batcher(call, max_batch_size=max_batch_size, max_queue_size=100, parallel=parallel)
        tasks = []
        for number, (pause, fate) in enumerate(plan):
            tasks.append(asyncio.create_task(submit(queue, number, 0 if fate == "expire" else 30)))
            for _ in range(pause):
                await asyncio.sleep(0)
            if fate == "cancel":
                tasks[-1].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for number, ((_, fate), result) in enumerate(zip(plan, results, strict=True)):
            assert result == 2 * number or (fate != "wait" and isinstance(result, BaseException))
        assert len(seen) == len(set(seen))

    asyncio.run(run())


async def test_the_number_of_items_that_wait() -> None:
    call = SlowCall()
    queue = batcher(call)
    first = asyncio.create_task(queue.submit([0], 5))
    await asyncio.sleep(0)
    assert queue.waiting == 0  # it did not wait
    others = asyncio.create_task(queue.submit(list(range(6)), 5))
    await asyncio.sleep(0)
    assert queue.waiting == 6
    call.gate.set()
    await asyncio.gather(first, others)
    assert queue.waiting == 0


async def test_a_deadline_knows_whether_the_item_was_called() -> None:
    queue = batcher(SlowCall())
    called, queued = await asyncio.gather(queue.submit([1], 0.01), queue.submit([2], 0.01), return_exceptions=True)
    assert isinstance(called, DeadlineExceededError)
    assert isinstance(queued, DeadlineExceededError)
    assert (called.queued, queued.queued) == (False, True)


async def test_a_call_knows_who_submitted_its_items() -> None:
    caller: ContextVar[str] = ContextVar("caller")
    seen: list[Sequence[str]] = []
    gate = asyncio.Event()

    async def call(items: list[int]) -> list[int]:
        seen.append(CALLERS.get())
        await gate.wait()
        return items

    queue = Batcher(call, max_batch_size=4, max_queue_size=8, caller=caller.get)

    async def submit(name: str, items: list[int]) -> None:
        caller.set(name)
        await queue.submit(items, 5)

    first = asyncio.create_task(submit("first", [0]))
    await asyncio.sleep(0)
    others = [asyncio.create_task(submit("second", [1, 2])), asyncio.create_task(submit("third", [3]))]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, *others)
    assert seen == [["first"], ["second", "third", "second"]]


async def submitted(
    queue: Batcher[int, int], items: Sequence[int], costs: Sequence[int] | None = None
) -> asyncio.Task[list[int]]:
    """A request whose items are in the queue."""
    task = asyncio.create_task(queue.submit(items, 5, costs))
    await asyncio.sleep(0)
    return task


async def test_a_request_with_one_item_does_not_wait_for_all_items_of_another() -> None:
    call = SlowCall()
    queue = batcher(call, max_queue_size=100)
    tasks = [await submitted(queue, [0]), await submitted(queue, range(100, 120)), await submitted(queue, [1])]
    tasks.append(await submitted(queue, range(200, 203)))
    call.gate.set()
    await asyncio.gather(*tasks)
    assert call.batches[:4] == [[0], [100, 1, 200, 101], [201, 102, 202, 103], [104, 105, 106, 107]]


async def test_a_later_request_comes_after_as_many_items_of_an_earlier_one_as_were_taken() -> None:
    gates = [asyncio.Event(), asyncio.Event(), asyncio.Event()]
    batches: list[list[int]] = []

    async def call(batch: list[int]) -> list[int]:
        batches.append(batch)
        await gates[len(batches) - 1].wait()
        return batch

    queue = batcher(call, max_batch_size=2)
    tasks = [await submitted(queue, [0]), await submitted(queue, [1, 2, 3, 4])]
    gates[0].set()
    await tasks[0]
    tasks.append(await submitted(queue, [5]))
    assert batches == [[0], [1, 2]]
    for gate in gates:
        gate.set()
    gates.append(gates[0])
    await asyncio.gather(*tasks)
    assert batches == [[0], [1, 2], [3, 5], [4]]


async def test_expensive_items_come_after_cheap_ones_of_later_requests() -> None:
    call = SlowCall()
    queue = batcher(call, max_batch_size=1, max_queue_size=9)
    tasks = [
        await submitted(queue, items, costs)
        for items, costs in (([0], [1]), ([1, 2], [3, 3]), ([3], [2]), ([4, 5], [1, 1]), ([6], [6]))
    ]
    call.gate.set()
    await asyncio.gather(*tasks)
    assert call.batches == [[0], [4], [3], [5], [1], [2], [6]]


async def test_the_items_of_a_batch_cost_at_most_the_maximum_together() -> None:
    call = SlowCall()
    queue = batcher(call, max_batch_cost=5)
    tasks = [await submitted(queue, [0], [9]), await submitted(queue, [1, 2, 3, 4, 5, 6], [2, 3, 1, 7, 5, 1])]
    call.gate.set()
    await asyncio.gather(*tasks)
    assert call.batches == [[0], [1, 2], [3], [4], [5], [6]]


async def test_cancelled_items_leave_room_for_others_in_a_batch() -> None:
    call = SlowCall()
    queue = batcher(call, max_batch_cost=5)
    tasks = [await submitted(queue, [0]), await submitted(queue, [1], [2]), await submitted(queue, [2], [3])]
    late = await submitted(queue, [3], [3])
    tasks[1].cancel()  # its item is in the queue until the task has run
    call.gate.set()
    assert await late == [6]
    assert call.batches == [[0], [2], [3]]


async def test_items_that_cost_more_than_the_queue_holds_are_rejected() -> None:
    call = SlowCall()
    queue = batcher(call, max_queue_cost=10)
    first = await submitted(queue, [0], [10])
    second = await submitted(queue, [1, 2], [4, 4])
    with pytest.raises(OverloadedError):
        await queue.submit([3], 5, [3])
    third = await submitted(queue, [4], [2])
    with pytest.raises(OverloadedError):
        await queue.submit([5], 5)
    call.gate.set()
    assert list(await asyncio.gather(first, second, third)) == [[0], [2, 4], [8]]
    assert await queue.submit([6, 7], 5, [5, 5]) == [12, 14]


async def test_a_request_that_ends_while_it_waits_leaves_the_queue_at_once() -> None:
    call = SlowCall()
    queue = batcher(call, max_queue_cost=8)
    first, second = await submitted(queue, [0]), await submitted(queue, [1, 2, 3], [2, 2, 2])
    third = await submitted(queue, [4], [2])
    second.cancel()
    await asyncio.sleep(0)
    assert queue.waiting == 1
    others = await submitted(queue, [5, 6], [3, 3])
    with pytest.raises(DeadlineExceededError):
        await queue.submit([7], -1, [0])
    assert queue.waiting == 3
    call.gate.set()
    assert list(await asyncio.gather(first, third, others)) == [[0], [8], [10, 12]]
    assert call.batches == [[0], [4, 5, 6]]


async def test_what_was_called_already_is_not_dropped_from_the_queue_again() -> None:
    call = SlowCall()
    queue = batcher(call, max_batch_size=2, max_queue_cost=4)
    first = await submitted(queue, [0, 1])
    second = await submitted(queue, [2, 3, 4])
    first.cancel()
    await asyncio.sleep(0)
    call.gate.set()
    assert await second == [4, 6, 8]
    assert call.batches == [[0, 1], [2, 3], [4]]


async def test_the_costs_are_those_of_the_items() -> None:
    with pytest.raises(ValueError, match="shorter"):
        await batcher(SlowCall()).submit([1, 2], 5, [1])


async def test_the_time_until_the_queue_has_room_depends_on_the_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, gate = asyncio.get_running_loop(), asyncio.Event()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)

    async def call(batch: list[int]) -> list[int]:
        nonlocal now
        if batch[0] == 1:
            now += 100
        else:
            await gate.wait()
        return batch

    queue = batcher(call, max_queue_cost=100)
    await queue.submit([1, 2], 1000, [4, 6])  # 10 s per unit of cost: the average, which was 0 s, becomes 2 s
    tasks = [await submitted(queue, [3]), await submitted(queue, [4, 5], [50, 40])]
    with pytest.raises(OverloadedError) as caught:
        await queue.submit([6], 5, [11])
    assert caught.value.retry_after == 180
    gate.set()
    await asyncio.gather(*tasks)


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=8),
    st.integers(1, 4),
    st.integers(1, 20),
)
def test_requests_share_the_calls_by_cost(requests: list[list[int]], max_batch_size: int, max_batch_cost: int) -> None:
    """While two requests wait, none of them has got more than the other by more than the cost of one item."""

    async def run() -> None:
        taken: list[int] = []
        gate = asyncio.Event()

        async def call(batch: list[int]) -> list[int]:
            if batch == [-1]:
                await gate.wait()
                return batch
            cost = sum(costs[item % 10] for item in batch for costs in [requests[item // 10]])
            assert len(batch) <= max_batch_size
            assert len(batch) == 1 or cost <= max_batch_cost
            taken.extend(batch)
            return batch

        queue = Batcher(call, max_batch_size=max_batch_size, max_queue_size=100, max_batch_cost=max_batch_cost)
        tasks = [await submitted(queue, [-1])]
        tasks += [
            await submitted(queue, [10 * number + place for place in range(len(costs))], costs)
            for number, costs in enumerate(requests)
        ]
        gate.set()
        await asyncio.gather(*tasks)
        assert sorted(taken) == [10 * number + place for number, costs in enumerate(requests) for place in range(len(costs))]
        got = [0] * len(requests)
        left = [list(costs) for costs in requests]
        for item in taken:
            number = item // 10
            assert item % 10 == len(requests[number]) - len(left[number]), "the items of a request are called in their order"
            turn = got[number] + left[number][0]
            assert all(turn <= got[other] + left[other][0] for other in range(len(requests)) if left[other])
            got[number] += left[number].pop(0)

    asyncio.run(run())
