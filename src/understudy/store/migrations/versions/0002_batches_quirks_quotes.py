"""Batches, quirks, quotes; agreement, parent and terms of an example; a smaller index of calls."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "batch",
        sa.Column("id", _ID, nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("input_file", sa.Text(), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "quirk",
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("quirks", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("identity"),
    )
    op.create_table(
        "quote",
        sa.Column("id", _ID, nullable=False),
        sa.Column("teacher", sa.Text(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("made", sa.Integer(), nullable=False),
        sa.Column("spent_micro", sa.BigInteger(), nullable=False),
        sa.Column("low_micro", sa.BigInteger(), nullable=False),
        sa.Column("high_micro", sa.BigInteger(), nullable=False),
        sa.Column("low_s", sa.Float(), nullable=False),
        sa.Column("high_s", sa.Float(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.add_column("example", sa.Column("agreement", sa.Float(), nullable=True))
    op.add_column("example", sa.Column("parent", _ID, nullable=True))
    op.add_column("example", sa.Column("terms", sa.Text(), nullable=False, server_default=""))
    op.drop_index("call_by_state", "call")
    # In place: alembic would copy the table, with every reply in it.
    kind = _ID.compile(op.get_bind().dialect)
    op.execute(f"ALTER TABLE call ADD COLUMN batch {kind} REFERENCES batch (id)")
    op.create_index(
        "call_open",
        "call",
        ["state"],
        sqlite_where=sa.text("state IN ('sent', 'received', 'batched')"),
    )
