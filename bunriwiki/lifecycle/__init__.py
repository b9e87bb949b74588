"""Versions in memory: loaded beside the one that serves, swapped in one step, unloaded when nobody uses them any more.

The words and the guarantees are TensorFlow Serving's (`core/`). This room knows no BentoML, no model, no file and no network.
"""
