"""Batches requests: those that arrive while the runner is busy go into the next call together.

An idle runner is called at once, so no request waits for a batch to fill. Batches grow with the load, because more requests
arrive during a call.

The queue is fair between requests (self-clocked fair queueing): the turn of an item is that of the item that was taken last,
plus the cost of the item and of those before it in its request. So neither a request with many items nor one with expensive
items stands before a request with one cheap item, and no item waits forever, as the turns of new items grow with those of taken
ones.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from itertools import count
from math import inf
from typing import Any, Generic, TypeVar

import msgspec

CALLERS: ContextVar[Sequence[Any]] = ContextVar("callers of a batch", default=())  # in the order of the items

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class OverloadedError(Exception):
    """The queue is full. `retry_after` estimates, in whole seconds, when it will have room."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


class DeadlineExceededError(Exception):
    """The deadline of the request passed before it was answered. `queued`: its items were never passed to a call."""

    def __init__(self, *, queued: bool) -> None:
        super().__init__("the deadline has passed")
        self.queued = queued


class _Waiting(msgspec.Struct, Generic[ItemT, ResultT]):
    item: ItemT
    answer: asyncio.Future[ResultT]
    caller: Any
    cost: int
    taken: bool = False  # it left the queue for a call


class Batcher(Generic[ItemT, ResultT]):
    """A bounded queue in front of `call`, which takes a list and returns one result per item, in order.

    Guarantees:

    - at most `parallel` calls run at once, each with at most `max_batch_size` items, which cost at most `max_batch_cost`
      together, unless it has one item only;
    - at most `max_queue_size` items wait, which cost at most `max_queue_cost` together; further items are rejected with
      OverloadedError;
    - the items of a request are called in their order, requests of the same cost oldest first, and requests that wait at the
      same time share the calls by cost;
    - items whose caller was cancelled or whose deadline has passed are not passed to `call`;
    - if `call` raises, exactly the items of that call get the exception.

    If `caller` is given, `submit` asks it who submits, and `call` finds the callers of its items in `CALLERS`.

    Not thread-safe: use it from one event loop.
    """

    def __init__(
        self,
        call: Callable[[list[ItemT]], Awaitable[Sequence[ResultT]]],
        *,
        max_batch_size: int,
        max_queue_size: int,
        max_batch_cost: float = inf,
        max_queue_cost: float = inf,
        parallel: int = 1,
        caller: Callable[[], object] | None = None,
    ) -> None:
        self._call = call
        self._max_batch_size = max_batch_size
        self._max_queue_size = max_queue_size
        self._max_batch_cost = max_batch_cost
        self._max_queue_cost = max_queue_cost
        self._parallel = parallel
        self._queue: list[tuple[int, int, _Waiting[ItemT, ResultT]]] = []  # by turn, then by age
        self._queue_cost = 0
        self._turn = 0  # of the item that was taken last
        self._numbers = count()
        self._calls: set[asyncio.Task[None]] = set()
        self._seconds_per_cost = 0.0
        self._caller = caller

    @property
    def waiting(self) -> int:
        """The number of items that wait for a call."""
        return len(self._queue)

    async def submit(self, items: Sequence[ItemT], seconds: float, costs: Sequence[int] | None = None) -> list[ResultT]:
        """The results of `items`, in order. They go into as few calls as `max_batch_size` and `max_batch_cost` allow.

        `costs` has what each item costs, at least 1; without it each costs 1. Raises OverloadedError at once if the queue has
        no room for all of them, DeadlineExceededError after `seconds`, and whatever `call` raises.
        """
        costs = costs or [1] * len(items)
        if len(self._queue) + len(items) > self._max_queue_size or self._queue_cost + sum(costs) > self._max_queue_cost:
            raise OverloadedError(max(1, round(self._queue_cost * self._seconds_per_cost / self._parallel)))
        loop = asyncio.get_running_loop()
        caller = self._caller() if self._caller is not None else None
        group: list[_Waiting[ItemT, ResultT]] = [
            _Waiting(item, loop.create_future(), caller, cost) for item, cost in zip(items, costs, strict=True)
        ]
        turn = self._turn
        for waiting in group:
            turn += waiting.cost
            insort(self._queue, (turn, next(self._numbers), waiting))
        self._queue_cost += turn - self._turn
        self._start_calls()
        timer = loop.call_later(seconds, _expire, group)
        try:
            results: list[ResultT] = []
            for waiting in group:  # a comprehension that awaits would be a coroutine of its own
                result = await waiting.answer
                results.append(result)
        except BaseException:
            for waiting in group:
                waiting.answer.cancel()
            self._drop_ended()
            raise
        finally:
            timer.cancel()
        return results

    def _start_calls(self) -> None:
        while len(self._calls) < self._parallel and (batch := self._take()):
            task = asyncio.create_task(self._run(batch))
            self._calls.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self._start_calls()

    def _take(self) -> list[_Waiting[ItemT, ResultT]]:
        batch: list[_Waiting[ItemT, ResultT]] = []
        cost = 0
        while self._queue and len(batch) < self._max_batch_size:
            turn, _, waiting = self._queue[0]
            if not waiting.answer.done():
                cost += waiting.cost
                if batch and cost > self._max_batch_cost:
                    break
                self._turn = turn
                waiting.taken = True
                batch.append(waiting)
            del self._queue[0]
            self._queue_cost -= waiting.cost
        return batch

    async def _run(self, batch: list[_Waiting[ItemT, ResultT]]) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        if self._caller is not None:
            CALLERS.set([waiting.caller for waiting in batch])
        try:
            results = await self._call([waiting.item for waiting in batch])
            answered = list(zip(batch, results, strict=True))
        except Exception as error:
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
            return
        for waiting, result in answered:
            if not waiting.answer.done():
                waiting.answer.set_result(result)
        latest = (loop.time() - started) / sum([waiting.cost for waiting in batch])
        self._seconds_per_cost += 0.2 * (latest - self._seconds_per_cost)

    def _drop_ended(self) -> None:
        """Drop the items of requests that ended while they waited, which frees their room and their memory at once."""
        self._queue = [entry for entry in self._queue if not entry[2].answer.done()]
        self._queue_cost = sum(waiting.cost for _, _, waiting in self._queue)


def _expire(group: list[_Waiting[ItemT, ResultT]]) -> None:
    queued = not any(waiting.taken for waiting in group)
    for waiting in group:
        if not waiting.answer.done():
            waiting.answer.set_exception(DeadlineExceededError(queued=queued))
