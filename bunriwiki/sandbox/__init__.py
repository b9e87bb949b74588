"""Run a program that handles other people's files with the least rights it can work with. See docs/threat-model.md."""
