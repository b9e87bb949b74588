"""Runs a program that handles third-party files with the fewest rights that it can work with. See docs/threat-model.md."""
