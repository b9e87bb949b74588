import model_sync.importing.compilers.torchvision_ops  # noqa: F401  (before transformers: it makes torchvision importable)
