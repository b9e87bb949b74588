"""Whether a program that took too long is at fault, or the machine that it ran on."""

from __future__ import annotations

from bunriwiki.telemetry.cpu import CpuTime
from model_sync.errors import UndecidedError

MAX_WAITED = 0.1  # share of the time that a program may wait for a core before the machine counts as busy
MIN_RAN = 0.9  # share of the time after which a program used all of it, however busy the machine was


def check_cause(late: str, seconds: float, used: CpuTime) -> None:
    """Raises UndecidedError if the machine may be the cause that a program was too late, which the sentence `late` says.

    `used` is what the program ran and waited within these `seconds`. A program that computed nearly all the time, on however
    many cores, is too slow on any machine; so is one that neither ran nor waited, because it hangs.
    """
    if used.waited > MAX_WAITED * seconds and used.ran < MIN_RAN * seconds:
        raise UndecidedError(
            f"{late}, but the machine is busy: it ran for {used.ran:.0f} s and waited for a CPU core for {used.waited:.0f} s"
        )
