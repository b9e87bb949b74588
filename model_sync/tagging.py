"""The signature of a version in MLflow: a tag of the model version."""

from __future__ import annotations

from model_sync.errors import PublishError, RejectedError, SourceError
from model_sync.signing import Signed
from model_sync.sources.mlflow_registry import MlflowSource

SHOWN = 5  # files that differ


def tag(signed: Signed, tracking_uri: str, name: str) -> Signed:
    """Give the signature to the version of the registered model `name`, if that has exactly the files that were signed.

    MLflow states sizes only, so files of the same size and other content are noticed by the sidecar alone. Raises PublishError.
    """
    source = MlflowSource(tracking_uri, {signed.model: name})
    try:
        offer = source.version(signed.model, signed.version)
        there = {(file.path, file.size) for file in source.files(offer)}
        differ = sorted({path for path, _ in there ^ {(file.path, file.size) for file in signed.files}})
        if differ:
            names = ", ".join(differ[:SHOWN]) + (", ..." if len(differ) > SHOWN else "")
            raise PublishError("rejected", f"{offer.uri} has other files than were signed ({names}): sign what lies there.")
        source.set_signature(offer, signed.signature)
    except RejectedError as error:
        raise PublishError("rejected", f"{error}.") from error
    except SourceError as error:
        raise PublishError("unreachable", f"{error}.") from error
    return signed.model_copy(update={"uri": offer.uri})
