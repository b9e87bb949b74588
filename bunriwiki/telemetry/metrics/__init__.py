"""The Prometheus metrics of the service, exact over all its processes (docs/metrics.md).

Each process counts in a file of its own (`values.py`), the supervisor merges the files of dead workers (`archive.py`), and a
scrape adds all of them up (`exposition.py`). A labelled series exists once its first child does, so children are created at
the start.
"""

from __future__ import annotations

import os
from pathlib import Path

from bunriwiki.telemetry.metrics.values import share_values

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the folder of this process's values; set by the supervisor, for the workers

if FOLDER in os.environ:
    share_values(Path(os.environ[FOLDER]))
