"""What each endpoint was found to want otherwise, remembered from one command to the next."""

from __future__ import annotations

import json
from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from understudy.models.protocol import Quirks
from understudy.store.database import now
from understudy.store.schema import quirk


def load(connection: sa.Connection, identity: str) -> Quirks | None:
    """The quirks learned of an endpoint, or None."""
    text = connection.scalar(sa.select(quirk.c.quirks).where(quirk.c.identity == identity))
    if text is None:
        return None
    known = json.loads(text)
    return Quirks(**{**known, "left_out": tuple(known["left_out"])})


def save(connection: sa.Connection, identity: str, quirks: Quirks) -> None:
    """Remember the quirks of an endpoint."""
    values = {"quirks": json.dumps(asdict(quirks)), "at": now()}
    connection.execute(
        insert(quirk)
        .values(identity=identity, **values)
        .on_conflict_do_update(index_elements=[quirk.c.identity], set_=values)
    )
