"""Uploaded files in the store: what each is called and holds. Their bytes lie in a folder."""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa

from understudy.store import schema
from understudy.store.database import now


class Upload(NamedTuple):
    """A file that a client sent, or one with results that it may fetch."""

    id: str
    """``file-...``"""
    name: str
    """As the client called it, made harmless; never used as a path."""
    purpose: str
    bytes: int
    sha256: str
    """In hexadecimal."""
    at: str = ""
    """UTC time, ISO 8601; empty before it is stored."""


def add(connection: sa.Connection, upload: Upload) -> Upload:
    """Store; the same with the time at which it was stored."""
    stored = upload._replace(at=now())
    connection.execute(schema.upload.insert().values(stored._asdict()))
    return stored


def get(connection: sa.Connection, id: str) -> Upload | None:
    """The upload of that id, or None."""
    row = connection.execute(_query().where(schema.upload.c.id == id)).one_or_none()
    return None if row is None else Upload._make(row)


def page(
    connection: sa.Connection,
    *,
    purpose: str | None,
    after: str | None,
    limit: int,
    newest_first: bool,
) -> list[Upload]:
    """Up to ``limit`` of them, those behind the one of id ``after`` if one is named."""
    number = schema.upload.c.number
    query = _query().order_by(number.desc() if newest_first else number).limit(limit)
    if purpose is not None:
        query = query.where(schema.upload.c.purpose == purpose)
    if after is not None:
        last = sa.select(number).where(schema.upload.c.id == after).scalar_subquery()
        query = query.where(number < last if newest_first else number > last)
    return [Upload._make(row) for row in connection.execute(query)]


def remove(connection: sa.Connection, id: str) -> bool:
    """Forget an upload; False if there was none."""
    gone = connection.execute(schema.upload.delete().where(schema.upload.c.id == id))
    return bool(gone.rowcount)


def _query() -> sa.Select[Any]:
    return sa.select(*[schema.upload.c[name] for name in Upload._fields])
