"""From what a data scientist publishes to a version that the data plane serves.

Importing this package costs nothing; a compiler in it brings torch, ultralytics, transformers or mlflow with it.
"""
