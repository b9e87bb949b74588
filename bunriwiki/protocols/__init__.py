"""The doors: how requests come in. Each is thin; behind all of them stands one set of handlers, `dataplane.py`."""
