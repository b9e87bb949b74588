"""The control plane: finds what should be served, verifies it, compiles it and publishes it."""
