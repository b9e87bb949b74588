"""The medians of several runs, as tables, and the bounds that they must keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.lean import Load
from benchmarks.machine import Noise

MAX_SLOWEST = 20.0  # ms
MAX_TIMES_SLOWER = 2.0  # than FastAPI's slowest answer
MAX_GROWTH = 1.05  # of memory, from the first measurement to the end
MEASURES = {
    "requests/s": "rate",
    "p50 ms": "p50",
    "p99 ms": "p99",
    "p99.9 ms": "p999",
    "slowest ms": "slowest",
    "generator's own stall ms": "own_stall",
}


@dataclass(frozen=True)
class Side:
    """A server in a run: the load, its memory in MB by role early and at the end, a single client, and the machine's noise."""

    load: Load
    early: dict[str, float]
    late: dict[str, float]
    lone: Load
    noise: Noise

    @property
    def failures(self) -> dict[str, int]:
        return self.load.failures or self.lone.failures

    def growth(self, role: str) -> float:
        """Memory at the end as a share of the early memory; infinite for a process that was started or ended meanwhile."""
        return self.late[role] / self.early[role] if role in self.early and role in self.late else float("inf")


@dataclass(frozen=True)
class Run:
    """Both servers, measured one after the other."""

    ours: Side
    theirs: Side


def row(name: str, pairs: Sequence[tuple[float, float]]) -> str:
    """The medians of a measure for both servers, and the median of the pairs' ratios."""
    ours, theirs = (median(pair[side] for pair in pairs) for side in (0, 1))
    ratio = median(a / b if b else float("nan") for a, b in pairs)
    return f"| {name} | {ours:.2f} | {theirs:.2f} | {ratio:.2f} |"


def table(runs: Sequence[Run]) -> str:
    """All measures, in Markdown."""
    lines = ["| median of the runs | ours | FastAPI | ratio |", "|---|---|---|---|"]
    for name, field in MEASURES.items():
        lines.append(row(name, [(getattr(run.ours.load, field), getattr(run.theirs.load, field)) for run in runs]))
    lines.append(row("single client, p50 ms", [(run.ours.lone.p50, run.theirs.lone.p50) for run in runs]))
    lines.append(row("memory early, MB", [(run.ours.early["sum"], run.theirs.early["sum"]) for run in runs]))
    lines.append(row("memory at the end, MB", [(run.ours.late["sum"], run.theirs.late["sum"]) for run in runs]))
    lines += ["", "| our memory, MB | early | at the end | ratio |", "|---|---|---|---|"]
    for role in roles(runs):
        early, late = (median(memory.get(role, 0) for memory in measured) for measured in _memory(runs))
        lines.append(f"| {role} | {early:.1f} | {late:.1f} | {median(run.ours.growth(role) for run in runs):.3f} |")
    return "\n".join(lines)


def roles(runs: Sequence[Run]) -> list[str]:
    """Our processes, by role."""
    return sorted({role for measured in _memory(runs) for memory in measured for role in memory})


def _memory(runs: Sequence[Run]) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    return [run.ours.early for run in runs], [run.ours.late for run in runs]


def exceeded(runs: Sequence[Run]) -> list[str]:
    """The bounds that are exceeded, a sentence each."""
    found = []
    slowest, theirs = median(run.ours.load.slowest for run in runs), median(run.theirs.load.slowest for run in runs)
    if slowest > MAX_SLOWEST:
        found.append(f"The slowest answer took {slowest:.1f} ms; at most {MAX_SLOWEST:g} ms are allowed.")
    if slowest > MAX_TIMES_SLOWER * theirs:
        found.append(f"The slowest answer took {slowest / theirs:.1f} times as long as FastAPI's, {theirs:.1f} ms.")
    for role in roles(runs):
        growth = median(run.ours.growth(role) for run in runs)
        if growth > MAX_GROWTH:
            found.append(f"The memory of {role} grew to {growth:.2f} of what it was early; {MAX_GROWTH} is allowed.")
    for number, run in enumerate(runs, 1):
        for name, side in (("ours", run.ours), ("FastAPI", run.theirs)):
            if side.failures:
                found.append(f"Run {number}, {name}: requests failed: {side.failures}.")
    return found


def noisy(runs: Sequence[Run]) -> list[str]:
    """The loads during which the machine was not quiet, a sentence each."""
    return [
        f"Run {number}, {name}: the machine was not quiet: other processes used {noise.foreign:.1%} of its cores, "
        f"{noise.stolen:.1%} were stolen, the load average was {noise.load:.1f}. The slowest answer is not reliable."
        for number, run in enumerate(runs, 1)
        for name, noise in (("ours", run.ours.noise), ("FastAPI", run.theirs.noise))
        if not noise.quiet
    ]
