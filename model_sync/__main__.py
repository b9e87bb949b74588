"""python -m model_sync run"""

from __future__ import annotations

import argparse

from model_sync.settings import SyncSettings
from model_sync.sidecar import run
from settings import read
from telemetry import logs


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m model_sync", description="The sidecar: brings new versions into the store."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="follow the registries until SIGTERM")
    parser.parse_args()
    settings = read(SyncSettings)
    logs.configure(settings.log_level)
    run(settings)


if __name__ == "__main__":
    main()
