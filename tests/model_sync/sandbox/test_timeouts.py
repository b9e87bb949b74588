from __future__ import annotations

import pytest

from bunriwiki.telemetry.cpu import CpuTime
from model_sync.errors import UndecidedError
from model_sync.sandbox.timeouts import check_cause


@pytest.mark.parametrize(
    ("ran", "waited", "undecided"),
    [
        (0, 0, False),  # it hangs
        (100, 0, False),  # it computes
        (95, 60, False),  # it computes in more threads than there are cores
        (200, 90, False),
        (60, 40, True),
        (10, 90, True),
        (50, 9, False),  # it waits for something else
    ],
)
def test_the_machine_is_the_cause_if_the_program_waited_for_a_core(ran: float, waited: float, undecided: bool) -> None:
    if undecided:
        with pytest.raises(
            UndecidedError, match=r"^it was late, but the machine is busy: it ran for \d+ s and waited .* for \d+ s$"
        ):
            check_cause("it was late", 100, CpuTime(ran, waited))
    else:
        check_cause("it was late", 100, CpuTime(ran, waited))
