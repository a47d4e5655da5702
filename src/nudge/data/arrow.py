"""Readers that need the library pyarrow (extra `data`): .zst and .parquet files, a piece at a time.

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

_ROWS = 1024  # at once
_BUFFER_BYTES = 1 << 20  # of the column; without such a buffer pyarrow holds the whole file


def zstd_reader(raw: IO[bytes], path: Path) -> IO[bytes]:
    """Return a reader of a decompressed .zst file. If it is damaged or cut, reading raises OSError without an errno."""
    pyarrow = _library("pyarrow", path)
    return cast(IO[bytes], io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, "r"), "zstd")))


def parquet_texts(path: Path, field: str) -> Iterator[tuple[str, float]]:
    """Yield the texts of a .parquet file's column that are not empty, and the share of its rows read by then.

    Raises: DataError if the file is damaged, or has no such column of text; MachineError without pyarrow.
    """
    pyarrow, parquet = _library("pyarrow", path), _library("pyarrow.parquet", path)
    buffered = {"pre_buffer": False, "buffer_size": _BUFFER_BYTES}
    with _whole(path, pyarrow), parquet.ParquetFile(path, **buffered) as file:
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
def _whole(path: Path, pyarrow: Any) -> Iterator[None]:
    try:
        yield
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError("incomplete", path=path, kind=".parquet", error=first_line(error)) from error


def _is_text(types: Any, column: Any) -> bool:
    if types.is_dictionary(column):
        column = column.value_type
    return bool(types.is_string(column) or types.is_large_string(column) or types.is_string_view(column))


def _library(name: str, path: Path) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MachineError("no_library", what=path.name, library="pyarrow", extra="data") from error
