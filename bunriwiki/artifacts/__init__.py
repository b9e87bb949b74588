"""What a model version consists of, and how bytes become tensors and tensors become answers.

Both planes read a version through this room, so that a model is read in one way only.
"""
