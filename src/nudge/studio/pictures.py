"""Values as small pictures: one pixel a value, drawn large by the browser without smoothing.

A heat map as a PNG of a few kilobytes is drawn in a fraction of the time of a chart, and the tensor stays here. Size is
cividis, a scale that people who confuse colours read as well; sign is hue (orange more, blue less than 0) and its size
is opacity, so that the same picture serves a light and a dark page.
"""

import base64
import struct
import zlib

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.floating]

_FULL_COLOUR = 0.99  # of the sizes are drawn as they are; a few outliers would make all others pale
POSITIVE, NEGATIVE = (224, 122, 16), (47, 116, 192)
# Ten stops of cividis (Source: Nuñez, Anderton, Renslow 2018; as in matplotlib), interpolated between.
_CIVIDIS = np.array(
    [
        (0, 34, 78),
        (18, 53, 112),
        (59, 73, 108),
        (87, 93, 109),
        (112, 113, 115),
        (138, 134, 120),
        (165, 156, 116),
        (195, 179, 105),
        (225, 204, 85),
        (254, 232, 56),
    ],
    dtype=np.float64,
)


def cividis(values: Values) -> npt.NDArray[np.uint8]:
    """0 .. 1 -> colours [.., 4]; NaN is transparent."""
    places = np.clip(np.nan_to_num(values), 0, 1) * (len(_CIVIDIS) - 1)
    below = np.minimum(places.astype(int), len(_CIVIDIS) - 2)
    mixed = _CIVIDIS[below] + (_CIVIDIS[below + 1] - _CIVIDIS[below]) * (places - below)[..., None]
    alpha = np.where(np.isnan(values), 0, 255)[..., None]
    return np.concatenate([mixed.round(), alpha], axis=-1).astype(np.uint8)


def signed(values: Values, largest: float) -> npt.NDArray[np.uint8]:
    """Values -> colours [.., 4]: hue is the sign, opacity the size as a share of `largest`."""
    share = np.clip(np.nan_to_num(np.abs(values) / (largest or 1.0)), 0, 1)
    hue = np.where((values > 0)[..., None], POSITIVE, NEGATIVE)
    return np.concatenate([hue, (255 * share[..., None] ** 0.8).round()], axis=-1).astype(np.uint8)


def png(colours: npt.NDArray[np.uint8]) -> str:
    """colours [rows, columns, 4] -> a data URL."""
    rows, columns, _ = colours.shape
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), colours.reshape(rows, columns * 4)], axis=1)
    parts = (
        _chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 6, 0, 0, 0)),
        _chunk(b"IDAT", zlib.compress(lines.tobytes(), 6)),
        _chunk(b"IEND", b""),
    )
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode("ascii")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def sizes_png(values: Values, largest: float = 1.0) -> str:
    """Sizes from 0 to `largest` [rows, columns] as a picture."""
    return png(cividis(np.asarray(values, dtype=np.float64) / (largest or 1.0)))


def full_colour(values: Values) -> float:
    """From which size on the colour is the full one: beyond it lie the largest 1% of the finite values."""
    sizes = np.abs(values[np.isfinite(values)])
    return float(np.quantile(sizes, _FULL_COLOUR)) if sizes.size else 1.0


def signs_png(values: Values, largest: float | None = None) -> str:
    """Values of both signs [rows, columns] as a picture; `largest` None: the largest that is there."""
    values = np.asarray(values, dtype=np.float64)
    if largest is None:
        finite = np.abs(values[np.isfinite(values)])
        largest = float(finite.max()) if finite.size else 1.0
    return png(signed(values, largest))
