"""TensorBoard that reads its runs again after an error.

python -m bunriwiki.container.tensorboard OPTION...

The options are TensorBoard's. TensorBoard reads the runs in threads, and an error of S3 (no answer, or no bucket yet) ends only
the thread: from then on the page would show what was read before. Here the process starts anew half a minute after the error.
"""

from __future__ import annotations

import os
import sys
import threading
import time

READERS = "Reloader"  # how the names of these threads begin
PAUSE_SECONDS = 30.0  # an attempt takes some seconds of a core


def start_anew_after_an_error(failed: threading.ExceptHookArgs) -> None:
    """For `threading.excepthook`: write the error, and if the thread reads runs, replace the process by a new one."""
    threading.__excepthook__(failed)
    if failed.thread and failed.thread.name.startswith(READERS):
        print(f"The runs cannot be read: see above. Trying again in {PAUSE_SECONDS:.0f} s.", file=sys.stderr, flush=True)  # noqa: T201
        time.sleep(PAUSE_SECONDS)
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 (the same command)


if __name__ == "__main__":
    from tensorboard.main import run_main

    threading.excepthook = start_anew_after_an_error
    run_main()
