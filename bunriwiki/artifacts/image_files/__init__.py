"""What an encoded image is, read from its headers within bounds, before anything is decoded. Knows no decoder.

A header says what decoding costs (`Header.cost`). `reduce_image` leaves only the parts of a file that the picture depends on,
so that a decoder sees neither texts nor colour profiles, further frames or previews.
"""
