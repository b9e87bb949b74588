"""How the fallback models were trained and judged, and how they are put into `models/`."""

from model_sync.importing.compilers import torchvision_ops as torchvision_ops  # before ultralytics and transformers
