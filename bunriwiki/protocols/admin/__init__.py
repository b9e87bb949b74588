"""The way of operators' commands from the data plane to the sidecar."""
