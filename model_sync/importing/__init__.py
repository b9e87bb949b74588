"""From what a data scientist publishes to a version that the data plane serves."""
