"""Logs, metrics, and the heartbeat of a worker."""
