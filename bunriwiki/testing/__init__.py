"""What the tests, the demo and the benchmarks share: processes to test with, versions to publish, load, waiting.

It needs the development environment, and is no part of a Bento (`bentofile.yaml`).
"""
