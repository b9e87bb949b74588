"""How tests write to the file of a process."""

from __future__ import annotations

from bunriwiki.telemetry.metrics.value_file import ValueFile


def add(file: ValueFile, key: str, amount: float) -> None:
    words, index = file.cell(key)
    words[index] += amount


def put(file: ValueFile, key: str, value: float) -> None:
    words, index = file.cell(key)
    words[index] = value
