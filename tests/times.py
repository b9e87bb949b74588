"""`python -m tests.times [folder]`: the minutes of `make test` by step, area and file, as Markdown.

They are read from its reports, in build/tests. Those of areas and files are the times of their tests: three files run at a
time, so a step takes about a third of its sum.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.run import REPORTS, STEPS

INTEGRATION = "tests.integration."
AREAS = {  # of the integration tests, by the beginnings of the files' names
    "a hostile network": ("hostile_", "hardening", "sidecar_tls"),
    "the rollout": ("rollout_bento", "engine_allow_list"),
    "containers": ("containers.",),
    "promotion, rollback and operators": (
        "rollout", "rollback", "first_version", "back_to_fallback", "operator_", "busy_machine",
    ),
    "observability and quality": (
        "monitoring", "telemetry", "tensorboard", "quality", "prediction_metrics", "version_metrics", "metrics",
    ),
    "hot swaps, crashes and restarts": ("swaps", "kills", "sudden_death", "shutdown", "replicas", "network_volume"),
    "registries and imports": ("sync", "admin"),
    "protocols, load and clients": (
        "serving", "grpc", "open_inference", "schema", "readme", "bento", "load", "locust", "uncertain",
    ),
}  # fmt: skip


def area(module: str) -> str:
    """The area of a test module, as JUnit's reports name it."""
    if not module.startswith(INTEGRATION):
        return f"unit: {module.split('.')[1]}" if module.startswith("tests.") else module
    name = module.removeprefix(INTEGRATION).removeprefix("test_")
    return next((found for found, beginnings in AREAS.items() if name.startswith(beginnings)), "other integration tests")


def by_module(report: Path) -> Counter[str]:
    """The seconds of the tests in a report in JUnit's format, by module."""
    found: Counter[str] = Counter()
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 (written by pytest)
        words = case.get("classname", "").split(".")
        found[".".join(word for word in words if word[:1].islower())] += float(case.get("time", 0))  # type: ignore[assignment]
    return found


def table(title: str, seconds: Mapping[str, float]) -> str:
    """The rows, longest first; what takes less than three seconds is left out."""
    rows = sorted(((took, name) for name, took in seconds.items() if took >= 3), reverse=True)
    return "\n".join([f"| {title} | minutes |", "|---|---|", *(f"| {name} | {took / 60:.1f} |" for took, name in rows), ""])


def main(folder: Path) -> None:
    steps: dict[str, float] = {}
    modules: Counter[str] = Counter()
    for report in (folder / f"{step}.xml" for step in STEPS):
        if report.exists():
            steps[report.stem] = sum(float(suite.attrib["time"]) for suite in ET.parse(report).iter("testsuite"))  # noqa: S314
            modules.update(by_module(report))
    areas: Counter[str] = Counter()
    for module, took in modules.items():
        areas[area(module)] += took
    for title, seconds in (("step", steps), ("area", areas), ("file", modules)):
        print(table(title, seconds))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else REPORTS)
