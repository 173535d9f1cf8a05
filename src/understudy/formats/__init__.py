"""Examples in and out of files: CSV, TSV, chat JSONL, prompt/completion, Alpaca, ShareGPT, Parquet.

What is read, told by content and never by the file's name, also inside gzip:

=============  =====================================================================
chat           ``{"messages": [{"role", "content", "weight"?}]}`` (OpenAI)
prompt         ``{"prompt", "completion"}``, texts or lists of messages (TRL)
alpaca         ``{"instruction", "input", "output", "system"?, "history"?}``
sharegpt       ``{"conversations": [{"from", "value"}], "system"?}``
csv, tsv       a header and rows, split by comma, tab, semicolon or bar
json           an array of any of those objects
parquet        any of those columns; needs ``pip install "understudy[parquet]"``
=============  =====================================================================

JSON objects and tables with other columns are read by the names in ``columns.py``, or by those that
the user gives. A row that cannot be used is a BadLine with its number and reason; the rest is read.

    source      bytes: gzip, byte order marks, lines       json_rows, table, parquet   containers
    columns     which column is which                      rows       row -> messages and answer
    turns       one turn, whatever its shape               conversations       fine-tuning files
    chats       conversations, all turns                   chatgpt, completions     their shapes
    encoding    messages and answer -> row                 reading, writing            the two doors
    texts       inputs alone
"""

from understudy.formats.reading import read
from understudy.formats.source import BadLine
from understudy.formats.texts import read_texts
from understudy.formats.writing import FORMATS, Manifest, format_of, write

__all__ = ["FORMATS", "BadLine", "Manifest", "format_of", "read", "read_texts", "write"]
