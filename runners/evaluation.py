"""Answer for one version, to whoever holds the other end of the socket FD: a program for the sandbox.

python -m runners.evaluation MODEL FOLDER --fd FD

The version is loaded and warmed up with the class that the runner serves with; then the frames are answered that came
meanwhile and that come (`bunriwiki/ipc/frames.py`), until the other side closes the connection. A version that cannot be loaded
or warmed up is rejected on standard output (`bunriwiki/artifacts/programs.py`). Nothing is judged here: a pyfunc is other
people's code and could change whatever this process finds.
"""

from __future__ import annotations

import argparse
import socket
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from bunriwiki.artifacts.answers import Answers
from bunriwiki.artifacts.inputs import Photo
from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.artifacts.programs import REJECTED, ProgressWriter
from bunriwiki.ipc.server import Replies, frames


class Version(Protocol):
    """A version, loaded."""

    def warm_up(self) -> None: ...

    def predict(self, batch: Sequence[Any], /) -> Answers[Any]: ...


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fd", type=int, required=True, help="the descriptor of a connected socket")
    given = parser.parse_args()
    progress = ProgressWriter()
    try:
        version = open_version(given.model, given.folder)
        version.warm_up()
    except Exception as error:  # whatever other people's code raises, it is not served
        traceback.print_exc()
        progress.write(rejected=f"{type(error).__name__}: {error}")
        return REJECTED
    replies = Replies(given.model, Photo if given.model == "yolo" else str, lambda batch, _: version.predict(batch))
    with socket.socket(fileno=given.fd) as connection:
        for content in frames(connection):
            connection.sendall(replies.to(content))
    return 0


def open_version(model: str, folder: Path) -> Version:
    """The version in `folder`, with the class that serves `model`. Raises DamagedArtifactError and anything else."""
    # Imported here: each brings libraries that the others do without.
    if model == "yolo":
        from runners.yolo import Yolo

        return Yolo(folder)
    if model == "kcbert":
        from runners.kcbert import KcBert

        return KcBert(folder)
    from runners.sentiment import Sentiment

    return Sentiment(folder)


if __name__ == "__main__":
    sys.exit(main())
