"""`make test`: all tests in four steps, and one line at the end for all of them.

The unit tests and the integration tests run in three workers, a file at a time; the integration tests with the marker `alone`
then run one after the other, and so do the tests in containers, where this machine can run them. Coverage is measured in the
unit tests only: the integration tests start their servers from other environments, and measuring would slow down the clients
that load them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

from bunriwiki.testing.containers.requirements import missing

REPORTS = Path("build/tests")
# On two cores, two workers leave a quarter of the time of the cores unused: tests wait for timeouts and paused loads as well.
IN_WORKERS = ["-n", "3", "--dist", "loadfile", "--no-loadscope-reorder"]
CONTAINERS = "tests/integration/containers"
STEPS = {
    "unit": ["--ignore=tests/integration", *IN_WORKERS, "--cov", "--cov-report=term"],
    "integration": ["tests/integration", f"--ignore={CONTAINERS}", "-m", "not alone", *IN_WORKERS],
    "alone": ["tests/integration", f"--ignore={CONTAINERS}", "-m", "alone"],
    "containers": [CONTAINERS],
}
RESULTS = ("failed", "passed", "skipped", "errors")


def run(step: str) -> tuple[int, Counter[str]]:
    """Run pytest; its exit code, and the number of tests by result."""
    report = REPORTS / f"{step}.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", *STEPS[step], f"--junit-xml={report}"]
    environment = {**os.environ, **({"OMP_NUM_THREADS": "1"} if step == "unit" else {})}  # torch's, in each worker
    code = subprocess.run(command, env=environment, check=False).returncode
    return code, counts(report) if report.exists() else Counter()


def counts(report: Path) -> Counter[str]:
    """The number of tests by result, of pytest's report in JUnit's format."""
    found: Counter[str] = Counter()
    for suite in ET.parse(report).iter("testsuite"):  # noqa: S314 (written by pytest)
        failed, errors, skipped = (int(suite.attrib[name]) for name in ("failures", "errors", "skipped"))
        passed = int(suite.attrib["tests"]) - failed - errors - skipped
        found.update(failed=failed, passed=passed, skipped=skipped, errors=errors)
    return found


def left_out() -> dict[str, str]:
    """The steps that cannot run here, with the reason. In CI they run, and fail with it."""
    lacks = missing()
    return {"containers": lacks} if lacks and not os.environ.get("CI") else {}


def main() -> int:
    began = time.monotonic()
    REPORTS.mkdir(parents=True, exist_ok=True)
    skipped = left_out()
    codes, found = zip(*(run(step) for step in STEPS if step not in skipped), strict=True)
    total = sum(found, Counter[str]())
    numbers = ", ".join(f"{total[result]} {result}" for result in RESULTS if total[result])
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    print(f"all tests: {numbers or 'none ran'} in {minutes}:{seconds:02}")
    for step, reason in skipped.items():
        print(f"left out: {step}. {reason}")
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
