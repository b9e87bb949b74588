"""Versions in memory: a new version is loaded beside the serving one, takes over in one step, and the old one is unloaded.

Terms and guarantees are those of TensorFlow Serving (`core/`). Independent of BentoML, models, files and network.
"""
