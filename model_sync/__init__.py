"""The control plane: imports new model versions from registries, evaluates them, and publishes them to the model store."""
