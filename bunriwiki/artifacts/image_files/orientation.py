"""The orientation that EXIF data state."""

from __future__ import annotations

import struct

TAG = 0x0112
MAX_BYTES = 2**16  # of EXIF data, as in a JPEG
_ORDERS = {b"II": "<", b"MM": ">"}
_NUMBERS = {1: "B", 3: "H", 4: "L"}  # by their TIFF type


def read_orientation(exif: bytes | memoryview) -> int:
    """The orientation, 1 to 8; 1 (upright) if there is none, or none that can be read.

    Reads the first directory only, at most 5,461 entries of 12 bytes, and no value of another tag.
    """
    data = bytes(exif[:MAX_BYTES]).removeprefix(b"Exif\0\0")
    order = _ORDERS.get(data[:2])
    if order is None:
        return 1
    try:
        (place,) = struct.unpack_from(order + "L", data, 4)
        (count,) = struct.unpack_from(order + "H", data, place)
        for entry in range(place + 2, place + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", data, entry)
            if tag == TAG:
                (value,) = struct.unpack_from(order + _NUMBERS[kind], data, entry + 8)
                return value if 1 <= value <= 8 else 1
    except (struct.error, KeyError):
        pass
    return 1
