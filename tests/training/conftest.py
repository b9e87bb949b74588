import model_sync.importing  # noqa: F401  (before transformers: it makes torchvision importable)
