"""Values become pixels that say the same."""

import base64
import struct
import zlib

import numpy as np

from nudge.studio.pictures import NEGATIVE, POSITIVE, full_color, signs_png, sizes_png


def pixels(url: str) -> np.ndarray:
    kind, _, data = url.partition(",")
    assert kind == "data:image/png;base64"
    png = base64.b64decode(data)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        content = png[at + 4 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0] == zlib.crc32(content)
        chunks[content[:4]] = content[4:]
        at += 12 + length
    columns, rows = struct.unpack(">II", chunks[b"IHDR"][:8])
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(rows, 1 + 4 * columns)
    assert not lines[:, 0].any()  # no filter
    return lines[:, 1:].reshape(rows, columns, 4)


def test_signs_are_hue_and_sizes_are_opacity() -> None:
    image = pixels(signs_png(np.array([[-2.0, 0.0, 1.0, 2.0, np.nan]])))
    assert image.shape == (1, 5, 4)
    assert tuple(image[0, 0]) == (*NEGATIVE, 255)
    assert tuple(image[0, 3]) == (*POSITIVE, 255)
    assert image[0, 1, 3] == image[0, 4, 3] == 0
    assert 0 < image[0, 2, 3] < 255


def test_sizes_go_from_dark_to_bright() -> None:
    image = pixels(sizes_png(np.array([[0.0, 0.5, 1.0, 7.0], [np.nan, 0.2, 0.4, 0.6]])))
    assert image.shape == (2, 4, 4)
    brightness = image[0, :, :3].sum(-1)
    assert brightness[0] < brightness[1] < brightness[2] == brightness[3]
    assert image[1, 0, 3] == 0


def test_values_that_are_not_finite_leave_the_others_their_colours() -> None:
    values = np.array([[-0.5, 0.25, np.nan, np.inf, -np.inf]])
    full = full_color(values)
    assert 0.25 < full <= 0.5
    opacity = pixels(signs_png(values, full))[0, :, 3]
    assert opacity.tolist() == [255, opacity[1], 0, 255, 255]
    assert 0 < opacity[1] < 255
    assert full_color(np.array([np.nan, np.inf])) == full_color(np.array([])) == 1.0
