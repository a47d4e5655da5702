"""Readers that need the library pyarrow (extra `data`): they read .zst and .parquet files piece by piece.

Python itself reads .zst only from 3.14 on. The library zstandard would be smaller, but its reader takes a file that was
cut short for a complete one; pyarrow raises an error.
"""

import contextlib
import importlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from nudge.errors import DataError, MachineError, first_line

_ROWS = 1024  # per batch
_BUFFER_BYTES = 1 << 20  # for the column; without this buffer pyarrow holds the whole file


def zstd_reader(raw: IO[bytes], path: Path) -> IO[bytes]:
    """Return a reader that decompresses a .zst file. Reading a damaged or cut file raises OSError without an errno."""
    pyarrow = _library("pyarrow", path)
    return cast(IO[bytes], io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, "r"), "zstd")))


def parquet_texts(path: Path, field: str) -> Iterator[tuple[str, float]]:
    """Yield each nonempty text of a .parquet file's column, and the share of the file's rows read so far.

    Raises: DataError if the file is damaged or has no text column of that name; MachineError without pyarrow.
    """
    pyarrow, parquet = _library("pyarrow", path), _library("pyarrow.parquet", path)
    buffered = {"pre_buffer": False, "buffer_size": _BUFFER_BYTES}
    with _explain_damage(path, pyarrow), parquet.ParquetFile(path, **buffered) as file:
        columns = file.schema_arrow
        if not any(column.name == field and _is_text(pyarrow.types, column.type) for column in columns):
            raise DataError("no_field", place=str(path), field=field, names=", ".join(columns.names))
        done = 0
        for batch in file.iter_batches(batch_size=_ROWS, columns=[field]):
            for text in batch.column(0).to_pylist():
                done += 1
                if text:
                    yield text, done / file.metadata.num_rows


@contextlib.contextmanager
def _explain_damage(path: Path, pyarrow: Any) -> Iterator[None]:
    """Turn the errors of reading a damaged file into a DataError."""
    try:
        yield
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError("incomplete", path=path, kind=".parquet", error=first_line(error)) from error


def _is_text(types: Any, column: Any) -> bool:
    """Return whether a column type is text, also as a dictionary of repeated values."""
    if types.is_dictionary(column):
        column = column.value_type
    return bool(types.is_string(column) or types.is_large_string(column) or types.is_string_view(column))


def _library(name: str, path: Path) -> Any:
    """Import a module of pyarrow. Raises: MachineError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MachineError("no_library", what=path.name, library="pyarrow", extra="data") from error
