"""Triggers request syncs: the clock, SQS messages, MLflow webhooks. They carry no facts; the registry's state decides."""
