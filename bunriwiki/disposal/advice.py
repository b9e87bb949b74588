"""The disposal advice for each class, read from `advice.yaml`, which names its sources."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field

FILE = Path(__file__).with_name("advice.yaml")

Line = Annotated[str, Field(pattern=r"^\S(.*\S)?$", max_length=120)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Source(_Strict):
    """An official text; `year` is the year in which it came into force or was published online."""

    title: Line
    publisher: Line
    year: int = Field(examples=[2026])
    url: str = Field(pattern=r"^https://[!-~]+$")


class Advice(_Strict):
    """How to dispose of objects of one class, in Korean. Rules of municipalities take precedence."""

    # YAML has no tuples, so these fields are not strict. Their elements are.
    steps: tuple[Line, ...] = Field(min_length=1, strict=False, description="What to do, in order.")
    exceptions: tuple[Line, ...] = Field(strict=False, description="Similar objects that go elsewhere: what, and where.")
    bin: Line = Field(description="Where to put the object.", examples=["유리병 수거함"])
    sources: tuple[Source, ...] = Field(min_length=1, strict=False, description="The official texts.")


class Guide(_Strict):
    """The advice for each class, and the date on which it was last checked against its sources."""

    checked: date
    sources: tuple[Source, ...] = Field(min_length=1, strict=False)
    classes: dict[str, Advice] = Field(min_length=1)

    @classmethod
    def read(cls, path: Path = FILE) -> Guide:
        """Read the guide from a file. Raises OSError, YAMLError, and ValidationError if it does not match the schema."""
        return cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))

    def on(self, labels: Iterable[str]) -> dict[str, Advice | None]:
        """The advice for each distinct label, in the order of `labels`; None if a class (of a newer model) has no advice."""
        return {label: self.classes.get(label) for label in labels}
