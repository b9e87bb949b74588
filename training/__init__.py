"""Trains and evaluates the bundled fallback models, and writes them to `models/`."""

from model_sync.importing.compilers import torchvision_ops as torchvision_ops  # before ultralytics and transformers
