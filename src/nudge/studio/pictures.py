"""Values as small pictures: one pixel per value, enlarged by the browser without smoothing.

A heat map as a PNG of a few kilobytes draws much faster than a chart, and the tensor stays here. Sizes use cividis, a
color scale that color-blind people read as well. For values of both signs, the hue is the sign (orange above 0, blue
below) and the opacity is the size, so that the same picture works on a light and a dark page.
"""

import base64
import struct
import zlib

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.floating]

_FULL_COLOR = 0.99  # quantile of the sizes with full color: a few outliers would make all others pale
POSITIVE, NEGATIVE = (224, 122, 16), (47, 116, 192)
# Ten stops of cividis (Source: Nuñez, Anderton, Renslow 2018; as in matplotlib), interpolated between.
_STOPS = "00224e 123570 3b496c 575d6d 707173 8a8678 a59c74 c3b369 e1cc55 fee838"
_CIVIDIS = np.array([list(bytes.fromhex(stop)) for stop in _STOPS.split()], dtype=np.float64)


def cividis(values: Values) -> npt.NDArray[np.uint8]:
    """Return the colors [.., 4] of values from 0 to 1; NaN is transparent."""
    places = np.clip(np.nan_to_num(values), 0, 1) * (len(_CIVIDIS) - 1)
    below = np.minimum(places.astype(int), len(_CIVIDIS) - 2)
    mixed = _CIVIDIS[below] + (_CIVIDIS[below + 1] - _CIVIDIS[below]) * (places - below)[..., None]
    alpha = np.where(np.isnan(values), 0, 255)[..., None]
    return np.concatenate([mixed.round(), alpha], axis=-1).astype(np.uint8)


def color_signed(values: Values, largest: float) -> npt.NDArray[np.uint8]:
    """Return the colors [.., 4] of values: the hue is the sign, the opacity the size as a share of `largest`."""
    share = np.clip(np.nan_to_num(np.abs(values) / (largest or 1.0)), 0, 1)
    hue = np.where((values > 0)[..., None], POSITIVE, NEGATIVE)
    return np.concatenate([hue, (255 * share[..., None] ** 0.8).round()], axis=-1).astype(np.uint8)


def png(colors: npt.NDArray[np.uint8]) -> str:
    """Return a data URL of a picture [rows, columns, 4]."""
    rows, columns, _ = colors.shape
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), colors.reshape(rows, columns * 4)], axis=1)
    parts = (
        _chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 6, 0, 0, 0)),
        _chunk(b"IDAT", zlib.compress(lines.tobytes(), 6)),
        _chunk(b"IEND", b""),
    )
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode("ascii")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def sizes_png(values: Values, largest: float = 1.0) -> str:
    """Return sizes from 0 to `largest` [rows, columns] as a picture."""
    return png(cividis(np.asarray(values, dtype=np.float64) / (largest or 1.0)))


def full_color(values: Values) -> float:
    """Return the size from which on the color is full: only 1% of the finite values are larger."""
    sizes = np.abs(values[np.isfinite(values)])
    return float(np.quantile(sizes, _FULL_COLOR)) if sizes.size else 1.0


def signs_png(values: Values, largest: float | None = None) -> str:
    """Return values of both signs [rows, columns] as a picture; `largest` has full color, by default the maximum."""
    values = np.asarray(values, dtype=np.float64)
    if largest is None:
        finite = np.abs(values[np.isfinite(values)])
        largest = float(finite.max()) if finite.size else 1.0
    return png(color_signed(values, largest))
