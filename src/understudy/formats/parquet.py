"""Parquet, in and out, through pyarrow, which is imported on use (the extra ``parquet``).

Files from strangers: no pyarrow that the extra allows unpickles anything (CVE-2023-47248), columns
are counted before a row is read, and only the needed ones are read, in batches of bounded size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from understudy.errors import SetupError, UsageError
from understudy.formats.source import Damaged, Item, Row

MAGIC = b"PAR1"
MAX_COLUMNS = 1000
"""Columns of a file that is read, nested ones counted singly."""
_BATCH_ROWS = 1000
_BATCH_BYTES = 4 * 2**20
_GROUP_ROWS = 20_000
_GROUP_CHARACTERS = 4 * 2**20


def column_names(path: Path) -> list[str]:
    """Names of the columns. Raises UsageError if the file is damaged, SetupError."""
    with _opened(path) as file:
        return [str(name) for name in file.schema_arrow.names]


def parquet_rows(path: Path, columns: list[str]) -> Iterator[Item]:
    """The rows, with these columns only. Raises UsageError, SetupError, Damaged."""
    pa, _ = _libraries()
    number = 0
    with _opened(path) as file:
        row_bytes = sum(
            file.metadata.row_group(group).total_byte_size
            for group in range(file.metadata.num_row_groups)
        ) / max(file.metadata.num_rows, 1)
        at_once = int(min(max(_BATCH_BYTES / max(row_bytes, 1), 1), _BATCH_ROWS))
        try:
            for batch in file.iter_batches(at_once, columns=columns, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        except (pa.ArrowException, OSError, UnicodeDecodeError):
            raise Damaged("the Parquet data cannot be read from here on") from None


def write_parquet(file: IO[bytes], rows: Iterable[Row]) -> None:
    """Write chat rows: one column ``messages``, a list of structs of role and content."""
    pa, pq = _libraries()
    text = pa.string()
    turn = pa.struct([("role", text), ("content", text)])
    schema = pa.schema([("messages", pa.list_(turn))])
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in _groups(rows):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    characters = 0
    for row in rows:
        group.append(row)
        characters += sum(len(turn["content"]) for turn in row["messages"])
        if len(group) == _GROUP_ROWS or characters > _GROUP_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group


def _opened(path: Path) -> Any:
    pa, pq = _libraries()
    try:
        file = pq.ParquetFile(path, buffer_size=2**20)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0][:120]
        raise UsageError(
            f"{path} is not a whole Parquet file: {reason}", "Make or download it again"
        ) from None
    if file.metadata.num_columns > MAX_COLUMNS:
        file.close()
        raise UsageError(
            f"{path} has {file.metadata.num_columns} columns, more than {MAX_COLUMNS}",
            "Write the needed ones to a file of their own",
        )
    return file


def _libraries() -> tuple[Any, Any]:
    """The packages pyarrow and pyarrow.parquet. Raises SetupError if they are not installed."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pyarrow":
            raise
        raise SetupError(
            "Parquet needs a package that is not installed",
            'Install it: pip install "understudy[parquet]"',
        ) from None
    return pa, pq
