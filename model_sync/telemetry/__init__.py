"""The metrics of the sidecar, which its API returns at `/metrics`. docs/metrics.md lists them."""
