"""python -m model_sync --help"""

from __future__ import annotations

import sys

from loguru import logger

from model_sync.cli.main import main

if __name__ == "__main__":
    logger.remove()
    logger.add(sys.stderr, level="WARNING", format="{message}")  # `run` configures its own log
    sys.exit(main())
