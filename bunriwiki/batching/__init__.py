"""The micro-batcher. Independent of models."""
