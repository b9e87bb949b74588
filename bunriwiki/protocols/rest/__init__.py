"""The REST server: plain routes with plain JSON, and Open Inference over REST."""
