"""What all training scripts are told on the command line."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path


def parser(description: str, output: str) -> argparse.ArgumentParser:
    """`--data`, `--output` and `--seed`; progress goes to the log from here on."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("onnx_ir").setLevel(logging.WARNING)  # else a line per constant
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, required=True, help="folder with the data: see training/README.md")
    made.add_argument(
        "--output", type=Path, default=Path("build") / output, help="folder for what is made (default: %(default)s)"
    )
    made.add_argument("--seed", type=int, default=0)
    return made
