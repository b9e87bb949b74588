"""`make test`: all tests, in two steps, with their coverage together, and one line at the end for both.

First the tests that share the machine, in two workers, a file at a time; then those with the marker `alone`, one after the
other.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

REPORTS = Path("build/tests")
STEPS = {
    "shared": [
        "-m",
        "not alone",
        "-n",
        "2",
        "--dist",
        "loadfile",
        "--no-loadscope-reorder",
        "--cov-report=",
        "--cov-fail-under=0",
    ],
    "alone": ["-m", "alone", "--cov-append", "--cov-report=term"],
}
RESULTS = ("failed", "passed", "skipped", "errors")


def run(step: str) -> tuple[int, Counter[str]]:
    """Run pytest; its exit code, and the number of tests by result."""
    report = REPORTS / f"{step}.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "--cov", *STEPS[step], f"--junit-xml={report}"]
    code = subprocess.run(command, check=False).returncode
    return code, counts(report) if report.exists() else Counter()


def counts(report: Path) -> Counter[str]:
    """The number of tests by result, of pytest's report in JUnit's format."""
    found: Counter[str] = Counter()
    for suite in ET.parse(report).iter("testsuite"):  # noqa: S314 (written by pytest)
        failed, errors, skipped = (int(suite.attrib[name]) for name in ("failures", "errors", "skipped"))
        passed = int(suite.attrib["tests"]) - failed - errors - skipped
        found.update(failed=failed, passed=passed, skipped=skipped, errors=errors)
    return found


def main() -> int:
    began = time.monotonic()
    REPORTS.mkdir(parents=True, exist_ok=True)
    codes, found = zip(*(run(step) for step in STEPS), strict=True)
    total = sum(found, Counter[str]())
    numbers = ", ".join(f"{total[result]} {result}" for result in RESULTS if total[result])
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    print(f"all tests: {numbers or 'none ran'} in {minutes}:{seconds:02}")
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
