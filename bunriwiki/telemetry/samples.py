"""Sampled predictions for relabelling, through `bentoml.monitor`."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import bentoml
from bentoml.monitoring import MonitorBase
from loguru import logger

from bunriwiki.artifacts.inputs import Photo
from bunriwiki.telemetry.sample_folder import SampleFolder

MAX_WAITING = 32  # samples that wait to be written; further ones are dropped
PRUNE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Sample:
    """An answer: the classes that it named with their scores, and the input."""

    model: str
    version: str
    request_id: str
    labels: Sequence[tuple[str, float]]
    given: str | Photo


class FolderMonitor(MonitorBase[Any]):
    """A BentoML monitor that writes each record to a file of `folder`: of BentoML's own, a log, no record can be deleted."""

    def __init__(self, name: str, folder: SampleFolder, **_: Any) -> None:
        super().__init__(name)
        self._folder = folder

    def export_schema(self, columns_schema: dict[str, dict[str, str]]) -> None:
        """Each record names its columns."""

    def export_data(self, datas: dict[str, deque[Any]]) -> None:
        record = {name: values.popleft() for name, values in datas.items()}
        photo = record.pop("photo", None)
        try:
            self._folder.write(self.name, record["request_id"], record, photo)
        except OSError as error:  # not raised: BentoML would reject every later record of this thread
            logger.error("a sample of {} could not be kept: {}", self.name, error)


class Sampler:
    """Keeps a `share` of the answers in `folder`, without the inputs unless `inputs` is set.

    `start` starts the thread that writes. No request waits for it.
    """

    def __init__(
        self, folder: SampleFolder, share: float, *, inputs: bool, chance: Callable[[], float] = random.random
    ) -> None:
        self._folder = folder
        self._share = share
        self._inputs = inputs
        self._chance = chance
        self._waiting: queue.Queue[Sample] = queue.Queue(MAX_WAITING)

    def draws(self) -> bool:
        """Whether the next answer is to be kept."""
        return self._chance() < self._share

    def keep(self, sample: Sample) -> None:
        """Write `sample` later; it is dropped if too many wait."""
        try:
            self._waiting.put_nowait(sample)
        except queue.Full:
            logger.debug("a sample is dropped: {} wait to be written", MAX_WAITING)

    def start(self) -> None:
        threading.Thread(target=self._run, name="samples", daemon=True).start()

    def write_next(self, seconds: float) -> None:
        """Write a sample, if one comes within `seconds`."""
        try:
            sample = self._waiting.get(timeout=seconds)
        except queue.Empty:
            return
        self._write(sample)

    def _run(self) -> None:
        while True:
            self._folder.prune()
            end = time.monotonic() + PRUNE_SECONDS
            while (left := end - time.monotonic()) > 0:
                self.write_next(left)

    def _write(self, sample: Sample) -> None:
        with bentoml.monitor(sample.model, monitor_class=FolderMonitor, monitor_options={"folder": self._folder}) as record:
            for name, value in (("request_id", sample.request_id), ("version", sample.version)):
                record.log(value, name, role="feature", data_type="categorical")
            record.log([label for label, _ in sample.labels], "labels", role="prediction", data_type="categorical")
            record.log([score for _, score in sample.labels], "scores", role="prediction", data_type="numerical_sequence")
            if self._inputs and isinstance(sample.given, str):
                record.log(sample.given, "text", role="feature", data_type="categorical")
            elif self._inputs and isinstance(sample.given, Photo):
                record.log(sample.given.data, "photo", role="feature", data_type="categorical")
