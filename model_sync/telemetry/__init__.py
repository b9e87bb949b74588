"""The metrics of the sidecar, which its API returns at `/metrics`. docs/monitoring.md lists them."""
