"""The command-line arguments that the training scripts share, and checks of their inputs."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with `--data`. Configures the log, where progress is written."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("onnx_ir").setLevel(logging.WARNING)  # otherwise it logs a line per constant
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, required=True, help="folder with the data: see training/README.md")
    return made


def add_output(made: argparse.ArgumentParser, name: str) -> None:
    """Add `--output`, `build/<name>` by default."""
    made.add_argument("--output", type=Path, default=Path("build") / name, help="folder for the results (default: %(default)s)")


def add_seed(made: argparse.ArgumentParser) -> None:
    """Add `--seed`."""
    made.add_argument("--seed", type=int, default=0)


def needed(path: Path, hint: str = "see training/README.md") -> Path:
    """`path`, if it exists. Raises SystemExit with `hint` if it does not."""
    if not path.exists():
        raise SystemExit(f"{path} does not exist: {hint}")
    return path


def claim(output: Path, **settings: object) -> None:
    """Make the folder `output` for a run with these settings, or resume the run in it.

    Raises SystemExit if the run in it has other settings: resumed, it would be a mixture of both.
    """
    output.mkdir(parents=True, exist_ok=True)
    note = output / "settings.json"
    wanted = json.dumps({name: str(value) for name, value in settings.items()}, indent=2)
    if not note.is_file():
        note.write_text(wanted, encoding="utf-8")
    elif note.read_text(encoding="utf-8") != wanted:
        raise SystemExit(f"{output} has a run with other settings ({note}): remove it, or choose another --output")
