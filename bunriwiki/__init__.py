__version__ = "0.1.0"  # of pyproject.toml, which is not in a Bento; a test compares
