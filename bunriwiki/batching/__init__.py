"""The micro-batcher. It knows no model."""
