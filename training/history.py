"""The history of a run: loss, learning rate and quality over time, as TensorBoard's event files in the folder `history`.

The folder is in the output folder of the run. `python -m model_sync publish` uploads it beside the version (docs/sync.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from torch.utils.tensorboard import SummaryWriter
from transformers import TrainerCallback

# What a Trainer logs besides: the epoch, the summary of the run, and how long an evaluation took.
NO_SCALARS = ("epoch", "train_", "total_flos", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second")


class History:
    """Writes the history of the run in the folder `output`.

    A resumed run repeats the steps since its last checkpoint: with `after`, the step of that checkpoint, what was written of
    later steps counts no longer.
    """

    def __init__(self, output: Path, *, after: int = 0) -> None:
        self._writer = SummaryWriter(str(output / "history"), purge_step=after + 1 if after else None)

    def add(self, scalars: Mapping[str, float], step: int) -> None:
        """Write the scalars of a step; an interrupted run keeps them."""
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TrainerHistory(TrainerCallback):
    """The history of a transformers Trainer: what it logs, by step, as `train/…` and, of evaluations, `eval/…`."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._history: History | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._history = History(self._output, after=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **kwargs: Any) -> None:
        if self._history:
            scalars = {_tag(name): value for name, value in (logs or {}).items() if not name.startswith(NO_SCALARS)}
            self._history.add(scalars, state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._history:
            self._history.close()


def _tag(name: str) -> str:
    return f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}"


def record_detector(model: Any, output: Path) -> None:
    """Have ultralytics' `model` write the history of its training: losses, learning rates and quality, by epoch.

    The step after the last epoch has the quality of the best checkpoint.
    """
    history: History | None = None

    def begin(trainer: Any) -> None:
        nonlocal history
        history = History(output, after=trainer.start_epoch)

    def add(trainer: Any) -> None:
        if history:
            losses = trainer.label_loss_items(trainer.tloss, prefix="train")
            history.add({**losses, **trainer.lr, **trainer.metrics}, trainer.epoch + 1)

    def end(_: Any) -> None:
        if history:
            history.close()

    model.add_callback("on_train_start", begin)
    model.add_callback("on_fit_epoch_end", add)
    model.add_callback("teardown", end)
