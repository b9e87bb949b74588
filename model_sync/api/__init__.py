"""The sidecar's HTTP API."""
