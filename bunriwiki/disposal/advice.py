"""The advice for each class, from `advice.yaml`, which names its sources."""

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
    """An official text; `year` is when it came into force or online."""

    title: Line
    publisher: Line
    year: int = Field(examples=[2026])
    url: str = Field(pattern=r"^https://[!-~]+$")


class Advice(_Strict):
    """How to dispose of things of one class, in Korean. Municipalities may have rules of their own, which come first."""

    # YAML has lists only, so these alone are not strict. Their elements are.
    steps: tuple[Line, ...] = Field(min_length=1, strict=False, description="What to do, in this order.")
    exceptions: tuple[Line, ...] = Field(strict=False, description="What looks like it and goes elsewhere: what, and where.")
    bin: Line = Field(description="Where to put it.", examples=["유리병 수거함"])
    sources: tuple[Source, ...] = Field(min_length=1, strict=False, description="The official texts that say so.")


class Guide(_Strict):
    """The advice for every class that has some, and when it was last held against its sources."""

    checked: date
    sources: tuple[Source, ...] = Field(min_length=1, strict=False)
    classes: dict[str, Advice] = Field(min_length=1)

    @classmethod
    def read(cls, path: Path = FILE) -> Guide:
        """Read the guide from a file. Raises OSError, YAMLError, or ValidationError when it does not fit the schema."""
        return cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))

    def on(self, labels: Iterable[str]) -> dict[str, Advice | None]:
        """The advice for each label, once, in their order; None for a class that has none, as a later model's may."""
        return {label: self.classes.get(label) for label in labels}
