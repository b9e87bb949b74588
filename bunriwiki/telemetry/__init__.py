"""Logs, metrics, and what a worker says of itself."""
