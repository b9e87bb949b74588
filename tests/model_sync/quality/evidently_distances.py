"""PSI and Jensen-Shannon distance by Evidently, for `test_evidently.py`: runs in an environment of its own.

Reads a list of pairs of histograms (lists of counts) from stdin as JSON; writes a list of pairs: PSI, distance (base e).
"""

from __future__ import annotations

import json
import sys

import pandas as pd
from evidently.legacy.calculations.stattests.jensenshannon import jensenshannon_stat_test
from evidently.legacy.calculations.stattests.psi import psi_stat_test
from evidently.legacy.core import ColumnType


def sample(counts: list[int]) -> pd.Series[str]:
    return pd.Series([f"bin {number}" for number, count in enumerate(counts) for _ in range(count)])


found = []
for pair in json.load(sys.stdin):
    reference, window = (sample(counts) for counts in pair)
    results = (test(reference, window, ColumnType.Categorical, None) for test in (psi_stat_test, jensenshannon_stat_test))
    found.append([result.drift_score for result in results])
json.dump(found, sys.stdout)
