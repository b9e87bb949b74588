"""S3: locations, the client, and what its errors mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import boto3
from boto3.exceptions import S3UploadFailedError
from botocore import exceptions as boto
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

READ_PERMISSIONS = "s3:GetObject and s3:ListBucket"
PUBLISH_PERMISSIONS = "s3:GetObject, s3:PutObject and s3:ListBucket"

# S3's error codes; an answer without a body has only the HTTP status.
NOT_FOUND = frozenset({"NoSuchKey", "NotFound", "404"})
PRECONDITION_FAILED = frozenset({"PreconditionFailed", "412"})
_ACCESS_DENIED = frozenset({"AccessDenied", "403"})
_REMEDIES = {
    "ExpiredToken": "the credentials have expired: renew them",
    "TokenRefreshRequired": "the credentials have expired: renew them",
    "InvalidToken": "the session token is not valid: check AWS_SESSION_TOKEN",
    "InvalidAccessKeyId": "the access key is not known there: check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret key does not fit the access key: check AWS_SECRET_ACCESS_KEY",
    "RequestTimeTooSkewed": "this machine's clock is off by more than 15 minutes: set it",
    "NoSuchBucket": "the bucket does not exist: create it, or correct its name",
    "PermanentRedirect": "the bucket is in another region: set AWS_DEFAULT_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set AWS_DEFAULT_REGION",
}

_CONNECTION_ERRORS = (boto.ConnectionError, boto.HTTPClientError)
_CREDENTIALS_ERRORS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.TokenRetrievalError,
)


@dataclass(frozen=True, slots=True)
class S3Location:
    """A prefix in a bucket; an empty prefix is the whole bucket."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, uri: str) -> Self:
        """The location at `s3://bucket/prefix`. Raises ValueError for any other form."""
        scheme, _, place = uri.partition("://")
        bucket, _, prefix = place.partition("/")
        if scheme != "s3" or not bucket:
            raise ValueError(f"{uri!r} should look like s3://bucket/prefix")
        return cls(bucket, prefix.strip("/"))

    def key(self, path: str) -> str:
        """The key of the object at `path` below the prefix."""
        return f"{self.prefix}/{path}" if self.prefix else path

    def uri(self, key: str) -> str:
        """The URI of the object with the key `key`, which includes the prefix."""
        return f"s3://{self.bucket}/{key}"


@dataclass(frozen=True, slots=True)
class S3Problem:
    """Why a request failed. `message` says what is wrong and what to do, and ends without a full stop.

    `settings`: the bucket, the region or the credentials are wrong. `unreachable`: S3 cannot answer at the moment.
    `failed`: anything else.
    """

    kind: Literal["settings", "unreachable", "failed"]
    message: str


def connect(*, read_timeout: float, max_attempts: int) -> S3Client:
    """A client configured by the AWS variables. `read_timeout` in seconds; `max_attempts` for each request, 1 at least."""
    session = boto3.Session()  # the default session of boto3.client() would keep the first credentials that it found
    return session.client(
        "s3",
        config=Config(
            connect_timeout=5,
            read_timeout=read_timeout,
            retries={"mode": "standard", "total_max_attempts": max_attempts},
            signature_version="s3v4",
            request_checksum_calculation="when_required",  # some servers do not know the newer checksums, and the
            response_checksum_validation="when_required",  # digests in latest_model.yaml cover the content already
        ),
    )


def error_code(error: ClientError) -> str:
    """S3's own code for the error; empty if the answer has none."""
    return str(error.response["Error"].get("Code", ""))


def describe_error(
    error: BotoCoreError | ClientError | S3UploadFailedError, uri: str, client: S3Client, permissions: str
) -> S3Problem:
    """Why a request of `client` for `uri`, which requires `permissions`, failed."""
    cause = error.__context__ if isinstance(error, S3UploadFailedError) else error  # boto3 wraps S3's answer to an upload
    if isinstance(cause, ClientError):
        return _describe_answer(cause, uri, permissions)
    if isinstance(cause, _CREDENTIALS_ERRORS):
        return S3Problem(
            "settings", f"S3 needs credentials for {uri} ({cause}): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if isinstance(cause, _CONNECTION_ERRORS):
        endpoint = client.meta.endpoint_url
        return S3Problem(
            "unreachable", f"S3 cannot be reached at {endpoint} ({cause}): check AWS_ENDPOINT_URL_S3 and the network"
        )
    return S3Problem("settings", f"S3 requests for {uri} fail: {cause}")


def _describe_answer(error: ClientError, uri: str, permissions: str) -> S3Problem:
    code, status = error_code(error), error.response["ResponseMetadata"]["HTTPStatusCode"]
    if code in _ACCESS_DENIED:
        return S3Problem("settings", f"S3 denies access to {uri}: grant {permissions} to these credentials")
    if code in _REMEDIES:
        return S3Problem("settings", f"S3 rejects {uri}: {_REMEDIES[code]}")
    if status >= 500:
        return S3Problem("unreachable", f"S3 answers {status} ({code}) for {uri}: it is overloaded or broken")
    return S3Problem("failed", f"S3 rejects {uri}: {code}, {error.response['Error'].get('Message', 'without a reason')}")
