"""Makes torchvision importable with a torch build that its wheel was not built for.

torchvision's wheel is built for one build of torch. With another one (the CPU build) its compiled operators do not load, and
`import torchvision` fails with "operator torchvision::nms does not exist". It cannot be uninstalled: ultralytics does not start
without its metadata, and transformers imports it if it is installed. Declaring the two operators that its Python code names is
enough for both; nothing here calls them (this project uses `bunriwiki/artifacts/suppression.py`).
"""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path

import torch

OPERATORS = ("nms", "qnms")
_declared = torch.library.Library("torchvision", "FRAGMENT")  # referenced here: its operators live as long as it does


def _declare_missing_operators() -> None:
    spec = importlib.util.find_spec("torchvision")
    if spec is not None and spec.origin is not None:
        with contextlib.suppress(OSError):  # the wheel was built for another torch
            torch.ops.load_library(Path(spec.origin).with_name("_C.so"))
    for name in OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            _declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


_declare_missing_operators()
