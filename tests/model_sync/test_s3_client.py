from __future__ import annotations

from typing import Any

import pytest
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
)

from model_sync.s3_client import PUBLISH_PERMISSIONS, S3Location, connect, describe_error, error_code

URI = "s3://models/yolo/best.pt"
ENDPOINT = "http://127.0.0.1:1"


def client_error(code: str, status: int = 400) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": "short and stout"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "PutObject")


def upload_error(cause: Exception) -> S3UploadFailedError:
    """As boto3 raises it, while it handles `cause`."""
    try:
        try:
            raise cause
        except type(cause):
            raise S3UploadFailedError("Failed to upload") from None
    except S3UploadFailedError as error:
        return error


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", ENDPOINT)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return connect(read_timeout=7, max_attempts=3)


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix", "key"),
    [
        ("s3://models", "models", "", "a/b"),
        ("s3://models/", "models", "", "a/b"),
        ("s3://models/x/y/", "models", "x/y", "x/y/a/b"),
    ],
)
def test_a_location(uri: str, bucket: str, prefix: str, key: str) -> None:
    location = S3Location.parse(uri)
    assert location == S3Location(bucket, prefix)
    assert location.key("a/b") == key
    assert location.uri(key) == f"s3://models/{key}"


@pytest.mark.parametrize("uri", ["", "models/x", "http://models/x", "s3:///x", "s3://"])
def test_an_invalid_location(uri: str) -> None:
    with pytest.raises(ValueError, match="should look like s3://bucket/prefix"):
        S3Location.parse(uri)


def test_the_client_is_configured_by_the_aws_variables(client: Any) -> None:
    config = client.meta.config
    assert client.meta.endpoint_url == ENDPOINT
    assert (config.read_timeout, config.retries["total_max_attempts"]) == (7, 3)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (client_error("AccessDenied", 403), "settings", f"S3 denies access to {URI}: grant {PUBLISH_PERMISSIONS} to these"),
        (client_error("403", 403), "settings", f"S3 denies access to {URI}"),
        (client_error("NoSuchBucket", 404), "settings", f"S3 rejects {URI}: the bucket does not exist: create it"),
        (client_error("SlowDown", 503), "unreachable", f"S3 answers 503 (SlowDown) for {URI}: it is overloaded or broken"),
        (client_error("Teapot", 418), "failed", f"S3 rejects {URI}: Teapot, short and stout"),
        (upload_error(client_error("ExpiredToken")), "settings", f"S3 rejects {URI}: the credentials have expired: renew them"),
        (NoCredentialsError(), "settings", f"S3 needs credentials for {URI} (Unable to locate credentials): set AWS_ACCESS"),
        (EndpointConnectionError(endpoint_url="x"), "unreachable", f"S3 cannot be reached at {ENDPOINT} ("),
        (ReadTimeoutError(endpoint_url="x"), "unreachable", f"S3 cannot be reached at {ENDPOINT} ("),
        (ParamValidationError(report="no bucket"), "settings", f"S3 requests for {URI} fail: "),
    ],
)
def test_errors(client: Any, error: BotoCoreError | ClientError | S3UploadFailedError, kind: str, message: str) -> None:
    problem = describe_error(error, URI, client, PUBLISH_PERMISSIONS)
    assert problem.kind == kind
    assert problem.message.startswith(message)


def test_an_error_without_a_code() -> None:
    answer: Any = {"Error": {}, "ResponseMetadata": {"HTTPStatusCode": 418}}
    assert error_code(ClientError(answer, "PutObject")) == ""
