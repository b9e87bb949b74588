"""The REST door: plain routes with plain JSON."""
