"""From the body and the query of a request to the input of a model. Nothing is fetched from an address in a request."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl

import msgspec
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from bunriwiki.artifacts.inputs import THRESHOLDS, Photo
from bunriwiki.web import problems

MAX_IMAGE_BYTES = 10 * 2**20  # of a body with an image
MAX_TEXT_BYTES = 2**17  # of a body with a text: 10,000 characters take less however they are escaped
NUMBER = re.compile(r"[0-9]{0,20}\.?[0-9]{1,20}(e-?[0-9]{1,3})?")
SWITCHES = {"true": True, "false": False}
IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp")
ADVICE = "advice"
PHOTO_OPTIONS = (*THRESHOLDS, ADVICE)
MAX_OPTIONS = 8  # in a query, or in a form
MAX_FIELD_BYTES = 1024  # of a field of a form that is no file
STEP_BYTES = 2**20  # of a form that are parsed at a time: other requests get their turn in between


class _TextBody(msgspec.Struct, forbid_unknown_fields=True):
    """As `TextRequest`, which describes it. Nothing is made of an unknown field, however large it is."""

    text: str


TEXT_BODY = msgspec.json.Decoder(_TextBody)
UNKNOWN_FIELD = re.compile("Object contains unknown field `(.*)`", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PhotoRequest:
    """A photo, and whether the client wants advice with the answer."""

    photo: Photo
    advice: bool


class _InMemoryParser(MultiPartParser):
    spool_max_size = MAX_IMAGE_BYTES + 1  # the body is in memory already and bounded: no part is written to disk


def parse_text(headers: Headers, body: bytes) -> str:
    """The field `text` of a JSON body, whatever its length (`bunriwiki.artifacts.inputs.text_cost`). Raises RequestError."""
    media_type = _media_type(headers)
    if media_type not in ("application/json", ""):
        raise problems.unsupported(
            f"The body is declared as {media_type!r}. Send JSON with the header `Content-Type: application/json`."
        )
    try:
        return TEXT_BODY.decode(body).text
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _text_problem(str(error), valid_json=isinstance(error, msgspec.ValidationError)) from None


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
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_OPTIONS)
    except ValueError:
        raise problems.invalid(f"The query has more than {MAX_OPTIONS} parameters. Leave out those that are unknown.") from None
    return _parse_options(pairs, known, "query parameter")


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
        for start in range(0, len(body), STEP_BYTES):
            if start:
                await asyncio.sleep(0)
            yield body[start : start + STEP_BYTES]

    parser = _InMemoryParser(headers, stream(), max_files=2, max_fields=MAX_OPTIONS, max_part_size=MAX_FIELD_BYTES)
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


def _text_problem(mistake: str, *, valid_json: bool) -> problems.RequestError:
    """The error for what `msgspec` says of a body with a text. A test has each of its sentences."""
    if not valid_json:
        return problems.broken('The body is not valid JSON. Send an object like {"text": "..."}.')
    if unknown := UNKNOWN_FIELD.fullmatch(mistake):
        return problems.invalid(f"The field {unknown[1][:60]!r} is unknown. Send `text` and nothing else.")
    if "missing required field" in mistake:
        return problems.invalid('The field `text` is missing. Send {"text": "..."}.')
    if mistake.endswith("`$.text`"):
        return problems.invalid("The field `text` must be a string.")
    return problems.invalid('The body must be a JSON object like {"text": "..."}.')
