"""Imports what a data scientist publishes: fetches, compiles and evaluates it, up to a folder that the data plane can serve.

Importing this package is cheap; each compiler in it imports torch, ultralytics, transformers or mlflow.
"""
