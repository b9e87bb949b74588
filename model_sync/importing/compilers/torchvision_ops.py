"""Make torchvision importable beside a torch that its wheel was not built for.

torchvision's wheel is built against one build of torch. Beside another (the CPU build) its compiled operators do not load, and
`import torchvision` ends with "operator torchvision::nms does not exist". It cannot be left out: ultralytics does not start
without its metadata, and transformers imports it wherever it is installed. Declaring the two operators that its Python code
names is enough for both; nothing here calls them (`bunriwiki/artifacts/suppression.py` is the suppression that is used).
"""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path

import torch

OPERATORS = ("nms", "qnms")
_declared = torch.library.Library("torchvision", "FRAGMENT")  # kept: its operators go when it is collected


def _declare_what_is_missing() -> None:
    spec = importlib.util.find_spec("torchvision")
    if spec is not None and spec.origin is not None:
        with contextlib.suppress(OSError):  # the wheel was built for another torch
            torch.ops.load_library(Path(spec.origin).with_name("_C.so"))
    for name in OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            _declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


_declare_what_is_missing()
