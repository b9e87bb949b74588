"""From the body and the query of a request to the input of a model. Nothing is fetched from an address in a request."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl

from pydantic import ValidationError
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from bunriwiki.artifacts.inputs import MAX_CHARACTERS, THRESHOLDS, Photo
from bunriwiki.protocols.rest.schemas import TextRequest
from bunriwiki.web import problems

MAX_IMAGE_BYTES = 10 * 2**20  # of a body with an image
MAX_TEXT_BYTES = 2**17  # of a body with a text: 10,000 characters take less however they are escaped
NUMBER = re.compile(r"[0-9]{0,20}\.?[0-9]{1,20}(e-?[0-9]{1,3})?")
SWITCHES = {"true": True, "false": False}
IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp")
ADVICE = "advice"
PHOTO_OPTIONS = (*THRESHOLDS, ADVICE)


@dataclass(frozen=True, slots=True)
class PhotoRequest:
    """A photo, and whether the client wants advice with the answer."""

    photo: Photo
    advice: bool


class _InMemoryParser(MultiPartParser):
    spool_max_size = MAX_IMAGE_BYTES + 1  # the body is in memory already and bounded: no part is written to disk


def parse_text(headers: Headers, body: bytes) -> str:
    """The field `text` of a JSON body. Raises RequestError."""
    media_type = _media_type(headers)
    if media_type not in ("application/json", ""):
        raise problems.unsupported(
            f"The body is declared as {media_type!r}. Send JSON with the header `Content-Type: application/json`."
        )
    try:
        return TextRequest.model_validate_json(body).text
    except ValidationError as error:
        raise _validation_problem(error) from None


async def parse_photo(headers: Headers, query: bytes, body: bytes) -> PhotoRequest:
    """The photo of a multipart body (field `image`) or of a raw body, with the options of the query and of the other fields.

    Raises RequestError.
    """
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
        raise problems.unsupported(
            f"The body is declared as {media_type or 'nothing'!r}. Send the image as multipart/form-data in the field `image`, "
            f"or raw, declared as {', '.join(IMAGE_TYPES)}."
        )
    if not data:
        raise problems.invalid("The image is empty. Send the bytes of a JPEG, PNG or WebP image.")
    thresholds = {name: float(options.get(name, default)) for name, default in THRESHOLDS.items()}
    return PhotoRequest(Photo(data=data, **thresholds), advice=bool(options.get(ADVICE, False)))


def parse_query(query: bytes, known: Iterable[str] = ()) -> dict[str, float | bool]:
    """The options in a query string. Raises RequestError for a parameter that is not `known`."""
    return _parse_options(parse_qsl(query.decode("latin-1"), keep_blank_values=True), known, "query parameter")


def _parse_options(pairs: Iterable[tuple[str, str]], known: Iterable[str], what: str) -> dict[str, float | bool]:
    found: dict[str, float | bool] = {}
    for name, text in pairs:
        if name not in known:
            raise problems.invalid(f"The {what} {name[:40]!r} is unknown. Leave it out.")
        if name in found:
            raise problems.invalid(f"The {what} {name!r} was sent more than once. Send it once.")
        found[name] = _parse_switch(name, text, what) if name == ADVICE else _parse_threshold(name, text, what)
    return found


def _parse_switch(name: str, text: str, what: str) -> bool:
    if text not in SWITCHES:
        raise problems.invalid(f"The {what} {name!r} must be true or false.")
    return SWITCHES[text]


def _parse_threshold(name: str, text: str, what: str) -> float:
    if not NUMBER.fullmatch(text) or not 0 <= float(text) <= 1:
        raise problems.invalid(f"The {what} {name!r} must be a number from 0 to 1.")
    return float(text)


async def _parse_multipart(headers: Headers, body: bytes) -> FormData:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = _InMemoryParser(headers, stream(), max_files=2, max_fields=8, max_part_size=MAX_IMAGE_BYTES)
    try:
        return await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        reason = getattr(error, "message", "its boundary is missing")
        raise problems.broken(
            f"The multipart body cannot be read: {reason}. Send it as `curl -F image=@photo.jpg` does."
        ) from None


async def _only_image(form: FormData) -> bytes:
    files = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
    names = [name for name, _ in files]
    if "image" in form and "image" not in names:
        raise problems.invalid("The field `image` holds text. Send the image itself as a file: an address is never fetched.")
    if names != ["image"]:
        raise problems.invalid("Send exactly one file, in the field `image`.")
    return await files[0][1].read()


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


_MISTAKES: dict[str, Callable[[str], problems.RequestError]] = {
    "json_invalid": lambda _: problems.broken('The body is not valid JSON. Send an object like {"text": "..."}.'),
    "missing": lambda field: problems.invalid(f'The field `{field}` is missing. Send {{"text": "..."}}.'),
    "extra_forbidden": lambda field: problems.invalid(f"The field {field!r} is unknown. Send `text` and nothing else."),
    "string_too_long": lambda field: problems.too_large(f"`{field}` has more than {MAX_CHARACTERS} characters. Shorten it."),
    "string_too_short": lambda field: problems.invalid(f"The field `{field}` is empty. Send the text to classify."),
    "string_pattern_mismatch": lambda field: problems.invalid(f"The field `{field}` is empty. Send the text to classify."),
    "string_type": lambda field: problems.invalid(f"The field `{field}` must be a string."),
}


def _validation_problem(error: ValidationError) -> problems.RequestError:
    first = error.errors(include_url=False)[0]
    mistake = _MISTAKES.get(first["type"])
    if mistake is None:
        return problems.invalid('The body must be a JSON object like {"text": "..."}.')
    return mistake(".".join(str(part) for part in first["loc"])[:60])
