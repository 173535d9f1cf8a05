"""The tables, as SQLAlchemy Core sees them. How they came to be is in migrations/."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

VERSION = 5
"""Number of the newest migration; SQLite's ``PRAGMA user_version`` of an up-to-date project."""

metadata = MetaData()

# SQLite numbers rows by itself only for plain INTEGER keys.
_ID = BigInteger().with_variant(Integer, "sqlite")

task = Table(
    "task",
    metadata,
    Column("version", Integer, primary_key=True),  # below 0: of a fine-tuning file, not the project
    Column("description", Text, nullable=False),
    Column("spec", Text),  # JSON; null until somebody wrote it
    Column("author", Text, nullable=False),  # a model name, or "you"
    Column("at", Text, nullable=False),
)

plan = Table(
    "plan",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("task_version", Integer, ForeignKey("task.version"), nullable=False),
    Column("plan", Text, nullable=False),  # JSON
    Column("author", Text, nullable=False),
    Column("at", Text, nullable=False),
)

example = Table(
    "example",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("messages", Text, nullable=False),  # JSON [[role, content], ...]
    Column("answer", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("twin", _ID),
    Column("grouping", Text, nullable=False),  # Example.group; "group" is a word of SQL
    Column("maker", Text, nullable=False),
    Column("source", Text, nullable=False, unique=True),
    Column("cell", Text, nullable=False),  # JSON
    Column("task_version", Integer, ForeignKey("task.version"), nullable=False),
    Column("at", Text, nullable=False),
    Column("agreement", Float),  # share of several answers that were this one; null: one was asked
    Column("parent", _ID),  # the example that this one's input was made from
    Column("terms", Text, nullable=False, server_default=""),  # the maker's, on training with it
    Index("example_by_state", "state", "id"),
)

call = Table(
    "call",
    metadata,
    Column("key", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("state", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("identity", Text, nullable=False),  # address and model; part of the key
    Column("request", Text, nullable=False),  # JSON of the messages
    Column("reserve_micro", BigInteger, nullable=False),
    Column("cost_micro", BigInteger),  # null until it is known
    Column("estimated", Integer, nullable=False),  # 1: the endpoint gave no usage, cost = reserve
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("latency_ms", Integer),
    Column("finish", Text),
    Column("raw", LargeBinary),
    Column("note", Text, nullable=False),
    Column("sent_at", Text, nullable=False),
    Column("ended_at", Text),
    Column("batch", _ID, ForeignKey("batch.id")),  # null: sent by itself
)
# Few calls are open at a time; an index of all states would be written three times for each.
Index(
    "call_open",
    call.c.state,
    sqlite_where=call.c.state.in_(("sent", "received", "batched")),
)

batch = Table(
    "batch",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("identity", Text, nullable=False),  # address and model
    Column("input_file", Text, nullable=False),  # the provider's id of the uploaded file, or ""
    Column("provider_id", Text, nullable=False),  # the provider's id of the batch, or ""
    Column("state", Text, nullable=False),  # as the provider names it; "new": not handed over yet
    Column("requests", Integer, nullable=False),
    Column("at", Text, nullable=False),
)

quirk = Table(
    "quirk",
    metadata,
    Column("identity", Text, primary_key=True),
    Column("quirks", Text, nullable=False),  # JSON of models.protocol.Quirks
    Column("at", Text, nullable=False),
)

quote = Table(
    "quote",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("teacher", Text, nullable=False),
    Column("wanted", Integer, nullable=False),  # generated examples in all
    Column("made", Integer, nullable=False),  # those that were there when it was quoted
    Column("spent_micro", BigInteger, nullable=False),  # and what was spent by then
    Column("low_micro", BigInteger, nullable=False),
    Column("high_micro", BigInteger, nullable=False),
    Column("low_s", Float, nullable=False),
    Column("high_s", Float, nullable=False),
    Column("at", Text, nullable=False),
)

purse = Table(
    "purse",
    metadata,
    Column("id", Integer, primary_key=True),  # always 1
    Column("budget_micro", BigInteger),  # null: no limit
    Column("spent_micro", BigInteger, nullable=False),  # settled and unknown
    Column("held_micro", BigInteger, nullable=False),  # reserved by calls in flight
)

event = Table(
    "event",
    metadata,
    Column("seq", _ID, primary_key=True),
    Column("at", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("data", Text, nullable=False),  # JSON
)

dataset = Table(
    "dataset",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("task_version", Integer, ForeignKey("task.version"), nullable=False),
    Column("fingerprint", Text, nullable=False, unique=True),
    Column("counts", Text, nullable=False),  # JSON {split: n}
    Column("at", Text, nullable=False),
)

member = Table(
    "member",
    metadata,
    Column("dataset_id", _ID, ForeignKey("dataset.id"), primary_key=True),
    Column("example_id", _ID, ForeignKey("example.id"), primary_key=True),
    Column("split", Text, nullable=False),
)

run = Table(
    "run",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("dataset_id", _ID, ForeignKey("dataset.id"), nullable=False),
    Column("student", Text, nullable=False),
    Column("recipe", Text, nullable=False),  # JSON
    Column("state", Text, nullable=False),
    Column("metrics", Text, nullable=False),  # JSON
    Column("at", Text, nullable=False),
)

hosted = Table(
    "hosted",
    metadata,
    Column("run", _ID, ForeignKey("run.id"), primary_key=True),
    Column("mark", Text, nullable=False, unique=True),  # in file names and the job's metadata
    Column("step", Text, nullable=False),  # how far it was handed over; see store/hosted.py
    Column("files", Text, nullable=False),  # JSON {split: {name, sha256, bytes, id}}
    Column("job", Text, nullable=False),  # the host's id of the job, or ""
    Column("told", Text, nullable=False),  # the host's own word for its state
    Column("seen", Text, nullable=False),  # id of the newest event of the host that was taken over
    Column("steps", Integer, nullable=False),  # optimizer steps that were seen done
    Column("tokens", BigInteger, nullable=False),  # tokens that the training may bill at the most
    Column("usd", Text, nullable=False),  # dollars a million tokens, as a decimal
    Column("price_source", Text, nullable=False),
    Column("call_key", Text, nullable=False),  # its row of the ledger
    Column("at", Text, nullable=False),
)

report = Table(
    "report",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("dataset_id", _ID, ForeignKey("dataset.id"), nullable=False),
    Column("report", Text, nullable=False),  # JSON, without the outcomes
    Column("at", Text, nullable=False),
)

outcome = Table(
    "outcome",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("report_id", _ID, ForeignKey("report.id"), nullable=False),
    Column("example_id", _ID, ForeignKey("example.id"), nullable=False),
    Column("system", Text, nullable=False),
    Column("outcome", Text, nullable=False),  # JSON
    UniqueConstraint("report_id", "example_id", "system"),
)

upload = Table(
    "upload",
    metadata,
    Column("number", _ID, primary_key=True),
    Column("id", Text, nullable=False, unique=True),  # file-...; the name of its file too
    Column("name", Text, nullable=False),  # as the client called it; never a path
    Column("purpose", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("at", Text, nullable=False),
)

job = Table(
    "job",
    metadata,
    Column("number", _ID, primary_key=True),  # the order in which they are trained
    Column("id", Text, nullable=False, unique=True),  # ftjob-...
    Column("state", Text, nullable=False),
    Column("asked", Text, nullable=False),  # JSON of what the client asked for
    Column("student", Text, nullable=False),  # what the asked model stands for here
    Column("since", _ID, nullable=False),  # number of the newest event when it was made
    Column("key", Text, unique=True),  # Idempotency-Key, if one was sent
    Column("dataset_id", _ID, ForeignKey("dataset.id")),  # null until the files were read
    Column("run_id", _ID, ForeignKey("run.id"), unique=True),  # null until it is trained
    Column("error", Text),  # JSON {code, message, param}
    Column("model", Text),  # the name of the trained student
    Column("results", Text),  # the upload with what was measured at each step
    Column("at", Text, nullable=False),
    Column("ended_at", Text),
)

label = Table(
    "label",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("example_id", _ID, ForeignKey("example.id"), nullable=False),
    Column("first", Text, nullable=False),  # the answers, in the words of when they were shown
    Column("second", Text, nullable=False),
    Column("first_system", Text, nullable=False),
    Column("second_system", Text, nullable=False),
    Column("said", Text, nullable=False),  # first, second, tie, skip
    Column("at", Text, nullable=False),
    UniqueConstraint("example_id", "first", "second"),
)
