"""Readers that need the library pyarrow (extra `data`): they read .zst and .parquet files piece by piece.

Python itself reads .zst only from 3.14 on. The library zstandard would be smaller, but its reader takes a file that was
cut short for a complete one; pyarrow raises an error. It reads all that zstd reads without an option: windows of up to
128 MB, several frames, empty and skippable ones.
"""

import contextlib
import importlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from nudge.errors import DataError, MachineError, first_line

_MOST_ROWS, _FEWEST_ROWS = 1024, 8  # per batch; fewer take longer
_BATCH_BYTES = 1 << 32  # if every row of it were all that its group stores
_BUFFER_BYTES = 1 << 20  # for the column; without this buffer pyarrow holds the whole file


def zstd_reader(raw: IO[bytes], path: Path) -> IO[bytes]:
    """Return a reader that decompresses a .zst file. Reading a damaged or cut file raises OSError without an errno."""
    pyarrow = _library("pyarrow", path)
    return cast(IO[bytes], io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, "r"), "zstd")))


def needs_long_window(error: Exception) -> bool:
    """Return whether an error of `zstd_reader` says that a sound file needs a window of more than 128 MB."""
    return "requires too much memory" in str(error)


def parquet_texts(path: Path, field: str) -> Iterator[tuple[str, float]]:
    """Yield each nonempty text of a .parquet file's column, and the share of the file's rows read so far.

    Nulls are passed over. Raises: DataError if the file is damaged or has no text in that column; MachineError without
    pyarrow.
    """
    pyarrow, parquet = _library("pyarrow", path), _library("pyarrow.parquet", path)
    buffered = {"pre_buffer": False, "buffer_size": _BUFFER_BYTES}
    with _explain_damage(path, pyarrow), parquet.ParquetFile(path, **buffered) as file:
        columns = file.schema_arrow
        if field not in columns.names:
            raise DataError("no_field", place=str(path), field=field, names=", ".join(columns.names))
        kind = columns.field(field).type
        if not _is_text(pyarrow.types, kind):
            raise DataError("not_text", place=f"{path}, row 1", field=field, kind=str(kind))
        done = 0
        for batch in file.iter_batches(batch_size=_rows_at_once(file.metadata, field), columns=[field]):
            for text in batch.column(0).to_pylist():
                done += 1
                if text:
                    yield text, done / file.metadata.num_rows


def _rows_at_once(metadata: Any, field: str) -> int:
    """Return how many rows to read at once, so that a batch stays small even if its rows all repeat the longest text.

    A repeated text is stored once: a small file may hold it a million times.
    """
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = [group.column(number) for group in groups for number in range(group.num_columns)]
    largest = max((column.total_uncompressed_size for column in columns if column.path_in_schema == field), default=0)
    return max(_FEWEST_ROWS, min(_MOST_ROWS, _BATCH_BYTES // max(largest, 1)))


@contextlib.contextmanager
def _explain_damage(path: Path, pyarrow: Any) -> Iterator[None]:
    """Turn the errors of reading a damaged file into a DataError."""
    try:
        yield
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError("incomplete", path=path, kind=".parquet", error=first_line(error)) from error


def _is_text(types: Any, column: Any) -> bool:
    """Return whether a column type is text, also as a dictionary of repeated values, or nothing but nulls."""
    if types.is_dictionary(column):
        column = column.value_type
    return bool(
        types.is_null(column)
        or types.is_string(column)
        or types.is_large_string(column)
        or types.is_string_view(column)
    )


def _library(name: str, path: Path) -> Any:
    """Import a module of pyarrow. Raises: MachineError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MachineError("no_library", what=path.name, library="pyarrow", extra="data") from error
