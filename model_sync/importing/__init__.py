"""From what a data scientist publishes to a version that the data plane serves."""

from model_sync.importing import torchvision_ops as torchvision_ops  # first: transformers and ultralytics need what it declares
