"""The protocol between the sidecar and the programs that it runs: JSON objects on standard output, one per line.

The first line is `{"begun": true}`: a failure before it is an error of the environment, not of the version. The lines after it
depend on the program. A program that fails writes one of these last, and exits with its code:

    {"rejected": "why the version must not serve"}               exit code REJECTED
    {"environment_error": "what is wrong with this machine"}     exit code ENVIRONMENT_ERROR
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TextIO

REJECTED = 3
ENVIRONMENT_ERROR = 4


class ProgressWriter:
    """Writes the lines of the protocol. It takes over standard output: what libraries print goes to standard error instead."""

    def __init__(self) -> None:
        self._lines: TextIO = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        self.write(begun=True)

    def write(self, **message: Any) -> None:
        """Write a line, and flush it."""
        self._lines.write(json.dumps(message) + "\n")
        self._lines.flush()
