"""A real Docker engine for tests, images built with it, and `docker-compose.yml` started on it.

`engine.missing()` says what it requires.
"""
