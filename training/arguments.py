"""What all training scripts are told on the command line, and what they say when something is not there."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path


def parser(description: str) -> argparse.ArgumentParser:
    """`--data`; progress goes to the log from here on."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("onnx_ir").setLevel(logging.WARNING)  # else a line per constant
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, required=True, help="folder with the data: see training/README.md")
    return made


def add_output(made: argparse.ArgumentParser, name: str) -> None:
    """`--output`, `build/<name>` by default."""
    made.add_argument(
        "--output", type=Path, default=Path("build") / name, help="folder for what is made (default: %(default)s)"
    )


def add_seed(made: argparse.ArgumentParser) -> None:
    """`--seed`."""
    made.add_argument("--seed", type=int, default=0)


def needed(path: Path, hint: str = "see training/README.md") -> Path:
    """`path`, which is there. Raises SystemExit with `hint` when it is not."""
    if not path.exists():
        raise SystemExit(f"{path} does not exist: {hint}")
    return path


def claim(output: Path, **settings: object) -> None:
    """Make the folder `output` for a run with these settings, or go on with the run in it.

    Raises SystemExit when the run in it was made with others: it would be resumed, and be neither the one nor the other.
    """
    output.mkdir(parents=True, exist_ok=True)
    note = output / "settings.json"
    wanted = json.dumps({name: str(value) for name, value in settings.items()}, indent=2)
    if not note.is_file():
        note.write_text(wanted, encoding="utf-8")
    elif note.read_text(encoding="utf-8") != wanted:
        raise SystemExit(f"{output} was made with other settings ({note}): remove it, or name another --output")
