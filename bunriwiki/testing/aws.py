"""The credentials that the local S3 and SQS servers accept."""

from __future__ import annotations

from typing import TypedDict

REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "for-tests-only", "AWS_DEFAULT_REGION": REGION}


class ClientArguments(TypedDict):
    """What `boto3.client` takes beside the name of a service."""

    endpoint_url: str
    aws_access_key_id: str
    aws_secret_access_key: str
    region_name: str


def client_arguments(url: str) -> ClientArguments:
    """The arguments of a client for the server at `url`."""
    return {
        "endpoint_url": url,
        "aws_access_key_id": CREDENTIALS["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        "region_name": REGION,
    }
