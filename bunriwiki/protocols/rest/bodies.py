"""From the bytes of a request to the input of a model. Whatever is wrong becomes a RequestError; nothing is fetched."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl

from pydantic import ValidationError
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import Receive

from bunriwiki.artifacts.inputs import THRESHOLDS, Photo
from bunriwiki.protocols.handlers import errors
from bunriwiki.protocols.handlers.dataplane import MAX_CHARACTERS
from bunriwiki.protocols.rest.schemas import TextRequest

MAX_BYTES = 10 * 2**20
MAX_TEXT_BYTES = 2**17  # 10,000 characters take less however they are escaped, and JSON is parsed on the event loop
NUMBER = re.compile(r"[0-9]{0,20}\.?[0-9]{1,20}(e-?[0-9]{1,3})?")
TRUTHS = {"true": True, "false": False}
IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp")
ADVICE = "advice"
PHOTO_OPTIONS = (*THRESHOLDS, ADVICE)


class ClientGoneError(Exception):
    """The client closed the connection before it was answered."""


@dataclass(frozen=True, slots=True)
class PhotoRequest:
    """A photo, and whether its answer is to have advice."""

    photo: Photo
    advice: bool


class _InMemoryParser(MultiPartParser):
    spool_max_size = MAX_BYTES + 1  # the body is in memory already and bounded: no detour over the disk


async def read_body(headers: Headers, receive: Receive, limit: int, take: Callable[[int], None]) -> bytes:
    """The whole body, whose bytes `take` has to grant.

    Raises RequestError as soon as it is known to be larger than `limit`, ClientGoneError when it is cut off.
    """
    announced = headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise _body_too_large(limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _body_too_large(limit)
        take(len(chunk))
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def parse_text(headers: Headers, body: bytes) -> str:
    """The field `text` of a JSON body."""
    media_type = _media_type(headers)
    if media_type not in ("application/json", ""):
        raise errors.unsupported(
            f"The body is declared as {media_type!r}. Send JSON with the header `Content-Type: application/json`."
        )
    try:
        return TextRequest.model_validate_json(body).text
    except ValidationError as error:
        raise _of_validation(error) from None


async def parse_photo(headers: Headers, query: bytes, body: bytes) -> PhotoRequest:
    """The photo of a multipart body (field `image`) or of a raw one, with the options of the query and the other fields."""
    options = parse_query(query, PHOTO_OPTIONS)
    media_type = _media_type(headers)
    if media_type in IMAGE_TYPES:
        data = body
    elif media_type == "multipart/form-data":
        form = await _parse_multipart(headers, body)
        try:
            data = await _only_image(form)
        finally:
            await form.close()
        fields = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
        options |= _parse_options(fields, PHOTO_OPTIONS, "field")
    else:
        raise errors.unsupported(
            f"The body is declared as {media_type or 'nothing'!r}. Send the image as multipart/form-data in the field `image`, "
            f"or raw as one of {', '.join(IMAGE_TYPES)}."
        )
    if not data:
        raise errors.invalid("The image is empty. Send the bytes of a JPEG, PNG or WebP image.")
    thresholds = {name: float(options.get(name, default)) for name, default in THRESHOLDS.items()}
    return PhotoRequest(Photo(data=data, **thresholds), advice=bool(options.get(ADVICE, False)))


def parse_query(query: bytes, known: Iterable[str] = ()) -> dict[str, float | bool]:
    """The options in a query string. Raises RequestError for a parameter that is not `known`."""
    return _parse_options(parse_qsl(query.decode("latin-1"), keep_blank_values=True), known, "query parameter")


def _parse_options(pairs: Iterable[tuple[str, str]], known: Iterable[str], what: str) -> dict[str, float | bool]:
    found: dict[str, float | bool] = {}
    for name, text in pairs:
        if name not in known:
            raise errors.invalid(f"The {what} {name[:40]!r} is not known here. Leave it out.")
        if name in found:
            raise errors.invalid(f"The {what} {name!r} was sent more than once. Send it once.")
        found[name] = _switch(name, text, what) if name == ADVICE else _threshold(name, text, what)
    return found


def _switch(name: str, text: str, what: str) -> bool:
    if text not in TRUTHS:
        raise errors.invalid(f"The {what} {name!r} must be true or false.")
    return TRUTHS[text]


def _threshold(name: str, text: str, what: str) -> float:
    if not NUMBER.fullmatch(text) or not 0 <= float(text) <= 1:
        raise errors.invalid(f"The {what} {name!r} must be a number from 0 to 1.")
    return float(text)


async def _parse_multipart(headers: Headers, body: bytes) -> FormData:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = _InMemoryParser(headers, stream(), max_files=2, max_fields=8, max_part_size=MAX_BYTES)
    try:
        return await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        reason = getattr(error, "message", "its boundary is missing")
        raise errors.broken(
            f"The multipart body cannot be read: {reason}. Send it as `curl -F image=@photo.jpg` does."
        ) from None


async def _only_image(form: FormData) -> bytes:
    files = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
    names = [name for name, _ in files]
    if "image" in form and "image" not in names:
        raise errors.invalid("The field `image` holds text. Send the image itself as a file: an address is never fetched.")
    if names != ["image"]:
        raise errors.invalid("Send exactly one file, in the field `image`.")
    return await files[0][1].read()


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _body_too_large(limit: int) -> errors.RequestError:
    most = f"{limit // 2**20} MB" if limit >= 2**20 else f"{limit // 2**10} KB"
    return errors.too_large(f"The body has more than {most}. Send a smaller one.")


_MISTAKES: dict[str, Callable[[str], errors.RequestError]] = {
    "json_invalid": lambda _: errors.broken('The body is no valid JSON. Send an object like {"text": "..."}.'),
    "missing": lambda field: errors.invalid(f'The field `{field}` is missing. Send {{"text": "..."}}.'),
    "extra_forbidden": lambda field: errors.invalid(f"The field {field!r} is not known here. Send `text` and nothing else."),
    "string_too_long": lambda field: errors.too_large(f"`{field}` has more than {MAX_CHARACTERS} characters. Shorten it."),
    "string_too_short": lambda field: errors.invalid(f"The field `{field}` is empty. Send the text to classify."),
    "string_pattern_mismatch": lambda field: errors.invalid(f"The field `{field}` is empty. Send the text to classify."),
    "string_type": lambda field: errors.invalid(f"The field `{field}` must be a string."),
}


def _of_validation(error: ValidationError) -> errors.RequestError:
    first = error.errors(include_url=False)[0]
    mistake = _MISTAKES.get(first["type"])
    if mistake is None:
        return errors.invalid('The body must be a JSON object like {"text": "..."}.')
    return mistake(".".join(str(part) for part in first["loc"])[:60])
