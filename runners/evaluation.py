"""A program for the sandbox: loads one version, and answers batches for it on the socket FD.

python -m runners.evaluation MODEL FOLDER --fd FD

It loads the version with the class that serves it, warms it up, and then answers frames (`bunriwiki/ipc/frames.py`) until the
other side closes the connection. It rejects a version that cannot be loaded or warmed up (`bunriwiki/artifacts/programs.py`).
It judges nothing: a pyfunc is third-party code, which could change any result that this process computes.
"""

from __future__ import annotations

import argparse
import socket
import sys
import traceback
from pathlib import Path

from bunriwiki.artifacts.models import SPECS
from bunriwiki.artifacts.programs import REJECTED, ProgressWriter
from bunriwiki.ipc.server import Replies, frames
from runners.servable import servable_class
from runners.throttle import unthrottled


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=SPECS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fd", type=int, required=True, help="the descriptor of a connected socket")
    arguments = parser.parse_args()
    spec = SPECS[arguments.model]
    progress = ProgressWriter()
    try:
        version = servable_class(spec)(arguments.folder)
        version.warm_up(unthrottled)
    except Exception as error:  # third-party code may raise anything
        traceback.print_exc()
        progress.write(rejected=f"{type(error).__name__}: {error}")
        return REJECTED
    replies = Replies(spec.name, spec.input, lambda batch, _: version.predict(batch))
    with socket.socket(fileno=arguments.fd) as connection:
        for content in frames(connection):
            connection.sendall(replies.to(content))
    return 0


if __name__ == "__main__":
    sys.exit(main())
