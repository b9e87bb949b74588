"""What a program that the sidecar runs tells it: JSON objects on standard output, a line each.

The first is `{"begun": true}`: whatever goes wrong before it lies with the environment, not with a version.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TextIO

REJECTED = 3  # the exit code of a program that has said in its last line, under `rejected`, why a version must not serve
ENVIRONMENT_ERROR = 4  # and of one that has said there, under `unfit`, what is wrong around it


class ProgressWriter:
    """Takes standard output for itself: what libraries print goes to standard error from here on."""

    def __init__(self) -> None:
        self._lines: TextIO = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        self.write(begun=True)

    def write(self, **what: Any) -> None:
        self._lines.write(json.dumps(what) + "\n")
        self._lines.flush()
