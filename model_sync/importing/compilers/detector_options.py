"""How a published detector is to be compiled: an optional file beside its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bunriwiki.artifacts import bounded_yaml
from model_sync.errors import RejectedError

OPTIONS = "serving.yaml"
MAX_BYTES = 10_000


class DetectorOptions(BaseModel):
    """The options in `serving.yaml`.

    size: side of the square in pixels; None: as the detector was trained.
    uncertain_below: the score below which a detection is uncertain; None: none is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int | None = Field(default=None, ge=32, multiple_of=32)
    uncertain_below: float | None = Field(default=None, gt=0, le=1)

    @classmethod
    def read(cls, file: Path | None) -> Self:
        """The options in `file`, or the defaults without one. Raises RejectedError."""
        if file is None:
            return cls()
        try:
            with file.open("rb") as stream:
                return cls.model_validate(bounded_yaml.load(stream.read(MAX_BYTES + 1), MAX_BYTES))
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise RejectedError(f"{file.name} has wrong options: {wrong}") from error
        except (yaml.YAMLError, ValueError) as error:
            raise RejectedError(f"{file.name} is not valid YAML: {error}") from error

    def of_graph(self) -> Self:
        """These options, for an artifact that is a graph already. Raises RejectedError if they would change the graph."""
        if self.size is not None:
            raise RejectedError(f"{OPTIONS} has a size, which an ONNX export has already: publish the weights")
        return self
