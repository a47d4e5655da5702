"""The decoding of UTF-8, and the recognition of text that is in another encoding as a whole.

Some bytes that are not UTF-8 are normal in text from the web: they are kept and counted. A file in another encoding is
a mistake that a network would learn without a complaint: UTF-16 and UTF-32 show it by their byte-order mark, and CP949
(Korean Windows, with EUC-KR in it) because it reads as Korean.
"""

import codecs
from pathlib import Path

from nudge.errors import DataError

BOM = "\ufeff"
# UTF-32 first: its mark in little-endian order begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
# Korean text in CP949 is, besides ASCII, nearly all syllables that are also in EUC-KR. Of Chinese in GBK that is about
# half; Japanese in Shift JIS or EUC-JP, Latin-1 and UTF-8 with some stray bytes have few or none.
_HANGUL_SHARE = 0.8
_FEWEST_SYLLABLES = 10


class Decoder:
    """A decoder of one file, block by block. It counts the bytes, and those of them that are not UTF-8.

    `strict`: refuse such bytes, and do not keep them as lone surrogates (`surrogateescape`).
    """

    def __init__(self, path: Path, *, strict: bool) -> None:
        self.n_bytes = 0
        self.n_stray = 0
        self._path = path
        self._strict = strict
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._begun = False

    def decode(self, data: bytes, *, final: bool = False) -> str:
        """Return the text of the next bytes. Raises: DataError for another encoding and for what is not text."""
        if not self.n_bytes:
            _refuse_mark(self._path, data)
        if b"\0" in data:
            raise DataError("binary", path=self._path)
        try:
            text = self._utf8.decode(data, final)
        except UnicodeDecodeError as error:
            if self._strict:
                at = self.n_bytes - len(self._utf8.getstate()[0]) + error.start
                _refuse_korean(self._path, data)
                raise DataError("not_utf8", path=self._path, at=at) from error
            text = self._decode_stray(data, final)
        self.n_bytes += len(data)
        if text and not self._begun:
            text, self._begun = text.removeprefix(BOM), True
        return text

    def _decode_stray(self, data: bytes, final: bool) -> str:
        _refuse_korean(self._path, data)
        self._utf8.errors = "surrogateescape"
        text = self._utf8.decode(data, final)
        self._utf8.errors = "strict"
        self.n_stray += count_stray(text)
        return text


def decode_line(path: Path, line: bytes) -> tuple[str, int]:
    """Return the text of a line, and the number of bytes in it that are not UTF-8. Raises: DataError."""
    try:
        return line.decode(), 0
    except UnicodeDecodeError:
        _refuse_mark(path, line)
        _refuse_korean(path, line)
        text = line.decode("utf-8", "surrogateescape")
        return text, count_stray(text)


def count_stray(text: str) -> int:
    """Return the number of characters that stand for bytes that are not UTF-8."""
    return len(text) - len(text.encode("utf-8", "ignore").decode())


def _refuse_mark(path: Path, data: bytes) -> None:
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            raise _other_encoding(path, encoding)


def _refuse_korean(path: Path, data: bytes) -> None:
    """Check that bytes that are not UTF-8 do not read as Korean in CP949. Raises: DataError."""
    letters = [letter for letter in data.decode("euc_kr", "replace") if not letter.isascii()]
    n_hangul = sum("가" <= letter <= "힣" for letter in letters)
    if n_hangul >= max(_FEWEST_SYLLABLES, _HANGUL_SHARE * len(letters)):
        raise _other_encoding(path, "CP949")


def _other_encoding(path: Path, encoding: str) -> DataError:
    unpacked = path.with_suffix("") if path.suffix.lower() in (".gz", ".zst") else path
    converted = unpacked.with_name(f"utf8-{unpacked.name}")
    return DataError("other_encoding", path=path, encoding=encoding, unpacked=unpacked, converted=converted)
