"""A version's signature in MLflow: a tag of the model version."""

from __future__ import annotations

from model_sync.errors import PublishError, RejectedError, SourceError
from model_sync.signing import Signed
from model_sync.sources.mlflow_registry import MlflowSource

MAX_NAMED = 5  # differing files in an error message


def tag(signed: Signed, tracking_uri: str, name: str) -> Signed:
    """Tag the version of the registered model `name` with the signature, if it has exactly the files that were signed.

    Files are compared by size, because MLflow has no digests; the sidecar compares their content. Raises PublishError.
    """
    source = MlflowSource(tracking_uri, {signed.model: name})
    try:
        offer = source.version(signed.model, signed.version)
        registered = {(file.path, file.size) for file in source.files(offer)}
        differ = sorted({path for path, _ in registered ^ {(file.path, file.size) for file in signed.files}})
        if differ:
            names = ", ".join(differ[:MAX_NAMED]) + (", ..." if len(differ) > MAX_NAMED else "")
            raise PublishError(
                "rejected", f"{offer.uri} has other files than the signed ones ({names}): sign the registered files."
            )
        source.set_signature(offer, signed.signature)
    except RejectedError as error:
        raise PublishError("rejected", f"{error}.") from error
    except SourceError as error:
        raise PublishError("unreachable", f"{error}.") from error
    return signed.model_copy(update={"uri": offer.uri})
