"""A real Docker engine for tests, images built with it, and `docker-compose.yml` started on it.

Requires root and Debian's packages docker.io, debootstrap, busybox-static, prometheus and prometheus-alertmanager.
"""
