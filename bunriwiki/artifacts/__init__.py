"""The content of a model version, and the conversion of inputs to tensors and of tensors to answers.

Both planes read versions through this package, so that they read them in the same way.
"""
