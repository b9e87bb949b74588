"""The command line: what an operator types. It speaks to the running sidecar, or acts on the store where none runs."""
