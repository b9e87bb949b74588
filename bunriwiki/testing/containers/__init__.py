"""A real Docker engine for tests, images built with it, and `docker-compose.yml` started on it.

`requirements.missing()` says what it requires.
"""
