"""Bodies that are made to cost more than they should."""

from __future__ import annotations

from hypothesis import strategies as st

MB = 2**20

# What a body repeats, and what comes before and after it: as JSON, as a form, as a message, or as nothing of that kind.
UNITS = (
    b"[", b"[],", b"{},", b'{"":', b"[" * 100 + b"]" * 100 + b",", b"1,", b"300,", b"1e9,", b"null,", b'"",', b'"a",',
    b'"a":1,', b'"a', b"\\\\", b'\\"', b"\\u0041", b"\\ud83d\\ude00", b"a", b"\xf0\x9f\x98\x80", b"\xff", b" ", b",",
    b"\r", b"\r\n", b"\r\n--", b"\r\n--B", b"\r\n--B\r\n", b"A: b\r\n", b"&", b"a=b&", b"\0", b"\x08\x01", b"*\0",
    b'{"name":"a"},', b'["a"],', b'{"inputs":[',
)  # fmt: skip
INPUT = b'{"inputs":[{"name":"text","datatype":"BYTES","shape":[%d],"parameters":{"content_type":"%s"},"data":['
EMOJI = "😀".encode()
FORM = b'--B\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n'
FRAMES = (
    (b"", b""),
    (b"[", b"]"),
    (b'{"a":[', b"0]}"),
    (b'{"text":"', b'"}'),
    (b'{"text":"' + EMOJI, b'"}'),
    (b'{"text":[', b"0]}"),
    (b'{"models":[', b'"a"]}'),
    (b'{"ticket":"', b'"}'),
    (b'{"version":{"a":[', b"0]}}"),
    (b'{"inputs":[{"name":"', b'"}]}'),
    (b'{"inputs":[{"name":"text","datatype":"BYTES","shape":[', b"1]}]}"),
    (b'{"inputs":[],"parameters":{"a":[', b"0]}}"),
    (b'{"inputs":[],"outputs":[', b"0]}"),
    (INPUT % (1, b""), b'"a"]}]}'),
    (INPUT % (1, b"") + b'"' + EMOJI, b'"]}]}'),
    (INPUT % (1, b"base64") + b'"', b'"]}]}'),
    (INPUT % (128, b""), b'"a"]}]}'),
    (INPUT.replace(b"text", b"image") % (1, b"base64") + b'"', b'"]}]}'),
    (FORM % (b"image", b'; filename="a"'), b"\r\n--B--\r\n"),
    (FORM % (b"confidence", b""), b"\r\n--B--\r\n"),
    (FORM % (b"confidence", b"\r\nContent-Type: text/plain; charset=punycode"), b"\r\n--B--\r\n"),
    (b"--B\r\n", b"\r\n--B--\r\n"),
    (b"--B--\r\n", b""),
)
TYPES = (b"application/json", b"multipart/form-data; boundary=B", b"image/png", b"")


def repeated(unit: bytes, size: int, before: bytes = b"", after: bytes = b"") -> bytes:
    """`unit` as often as it fits into a body of `size` bytes."""
    return before + unit * ((size - len(before) - len(after)) // len(unit)) + after


def bodies(max_bytes: int) -> st.SearchStrategy[bytes]:
    """Bodies of at most `max_bytes`, and a little more."""
    sizes = st.sampled_from([1_000, 60_000, max_bytes]) | st.integers(0, max_bytes)
    made = st.builds(
        lambda frame, unit, size: repeated(unit, size, *frame), st.sampled_from(FRAMES), st.sampled_from(UNITS), sizes
    )
    return made | st.binary(max_size=2_000)
