from __future__ import annotations

import pytest

from protocols.statistics import Statistics


def test_calls_and_executions() -> None:
    one = Statistics()
    with one.of_call(3), one.of_execution(3):
        pass
    with pytest.raises(KeyError), one.of_call(2):
        raise KeyError
    assert (one.success.count, one.fail.count, one.inferences, one.executions) == (1, 1, 3, 1)
    assert one.infer.count == 3
    assert one.queue.ns >= 0
    assert one.last_ms > 0
