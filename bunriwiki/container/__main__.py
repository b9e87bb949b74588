"""The entry point of the service's container: `bentoml serve`, as process 1.

The kernel ignores SIGTERM for a process 1 that has no handler. BentoML's parent process installs its own once its libraries are
imported, and until then a stop would take the whole grace period. There is nothing to clean up yet, so the handler here ends
the process at once: an exception could be lost in an import that catches everything.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def _exit(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)


signal.signal(signal.SIGTERM, _exit)

from bentoml_cli.cli import cli  # noqa: E402 (it takes seconds to import)

cli(["serve", "service:Bunriwiki", *sys.argv[1:]], prog_name="bentoml")
