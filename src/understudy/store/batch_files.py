"""Calls written down as batches: the rows, their reserve and the file of requests, all or nothing.

The file is on disk before the rows are committed, and is needed until the provider has it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import sqlalchemy as sa

from understudy.errors import BudgetReached, DiskError
from understudy.models.batches import BatchEndpoint
from understudy.models.protocol import Request
from understudy.money import Price, usd
from understudy.store import calls
from understudy.store.calls import Asked, Sent
from understudy.store.database import Database, now
from understudy.store.schema import batch

MOST_REQUESTS = 50_000
"""Requests of one batch; this and the next are the limits of OpenAI's."""
MOST_BYTES = 200_000_000
"""Bytes of one file of requests."""
CHUNK = 1000
"""Rows written at once."""
CHUNK_BYTES = 4_000_000


class Buyer(NamedTuple):
    """Whose batches, from whom, at what price, and which calls with a row may be bought again."""

    folder: Path
    endpoint: BatchEndpoint
    price: Price
    resend_unknown: bool

    def worst(self, request: Request, body: bytes) -> int:
        """The most that a request can cost, in micro-dollars."""
        return self.price.worst_micro(len(body), request.max_tokens)


def hold(database: Database, buyer: Buyer, requests: Sequence[Request]) -> int:
    """Write requests down as new batches, their worst case held; how many requests.

    Those that need not be bought are left out; each comes once. Raises BudgetReached, DiskError.
    """
    files: list[_File] = []
    held = 0
    try:
        with database.write() as connection, disk_errors(buyer.folder):
            for chunk in _chunks(buyer.endpoint, requests):
                if not files or not files[-1].takes(chunk):
                    files.append(_new_file(connection, buyer))
                asked = _asked(chunk, buyer, files[-1])
                found = calls.begin(connection, asked, resend_unknown=buyer.resend_unknown)
                for (_, body), result in zip(chunk, found, strict=True):
                    if isinstance(result, BudgetReached):
                        raise _too_dear(connection, buyer, requests, held)
                    if isinstance(result, Sent):
                        files[-1].add(buyer.endpoint.request_line(custom_id(result), body))
                        held += 1
            for file in files:
                file.end(connection)
    except BaseException:
        for file in files:
            file.discard()
        raise
    return held


def _asked(chunk: Sequence[tuple[Request, bytes]], buyer: Buyer, file: _File) -> list[Asked]:
    name, identity = buyer.endpoint.name, buyer.endpoint.identity
    return [
        Asked(
            request.key(identity), request, name, identity, buyer.worst(request, body), file.batch
        )
        for request, body in chunk
    ]


def _too_dear(
    connection: sa.Connection, buyer: Buyer, requests: Sequence[Request], fit: int
) -> BudgetReached:
    worst = sum(buyer.worst(one, buyer.endpoint.prepare(one)) for one in requests)
    budget = calls.read_purse(connection).budget_micro or 0
    return BudgetReached(
        f"the batch of {len(requests):,} requests could cost {usd(worst)}, and what is left of the "
        f"budget of {usd(budget)} has room for {fit:,} of them",
        "Nothing of it was sent; ask for fewer, or go on with a higher --budget",
    )


def _chunks(
    endpoint: BatchEndpoint, requests: Sequence[Request]
) -> Iterator[list[tuple[Request, bytes]]]:
    """Requests and their bodies, a part of a file at a time."""
    chunk: list[tuple[Request, bytes]] = []
    size = 0
    for request in requests:
        body = endpoint.prepare(request)
        full = len(chunk) == min(CHUNK, MOST_REQUESTS)
        if chunk and (full or size + _line_bytes(body) > min(CHUNK_BYTES, MOST_BYTES)):
            yield chunk
            chunk, size = [], 0
        chunk.append((request, body))
        size += _line_bytes(body)
    if chunk:
        yield chunk


def _line_bytes(body: bytes) -> int:
    """Bytes of the line around a body, at the most."""
    return len(body) + 200


@dataclass
class _File:
    """A file of requests that is being written."""

    batch: int
    path: Path
    file: BinaryIO
    requests: int = 0
    size: int = 0

    def takes(self, chunk: Sequence[tuple[Request, bytes]]) -> bool:
        """True if the limits allow these as well."""
        size = sum(_line_bytes(body) for _, body in chunk)
        return self.requests + len(chunk) <= MOST_REQUESTS and self.size + size <= MOST_BYTES

    def add(self, line: bytes) -> None:
        """Write one request."""
        self.requests += 1
        self.size += self.file.write(line)

    def end(self, connection: sa.Connection) -> None:
        """Have it safe on disk; an empty one is none."""
        if not self.requests:
            connection.execute(batch.delete().where(batch.c.id == self.batch))
            self.discard()
            return
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        values = {"requests": self.requests}
        connection.execute(batch.update().where(batch.c.id == self.batch).values(values))

    def discard(self) -> None:
        """Remove it."""
        self.file.close()
        self.path.unlink(missing_ok=True)


def _new_file(connection: sa.Connection, buyer: Buyer) -> _File:
    row = {"identity": buyer.endpoint.identity, "input_file": "", "provider_id": ""}
    row |= {"state": "new", "requests": 0, "at": now()}  # type: ignore[dict-item]
    number = connection.scalar(batch.insert().values(row).returning(batch.c.id)) or 0
    path = requests_file(buyer.folder, number)
    return _File(number, path, path.open("wb"))


def requests_file(folder: Path, number: int) -> Path:
    """Where the requests of a batch wait until the provider has them."""
    return folder / f"batch-{number}.jsonl"


def custom_id(sent: Sent) -> str:
    """What a line is known by: not all providers take more than 64 characters."""
    return f"{sent.key[:48]}-{sent.attempt}"


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn an OSError into a DiskError."""
    try:
        yield
    except OSError as error:
        raise DiskError(
            f"reading or writing in {folder} failed: {error.strerror}",
            "Free some space or check its permissions; then run it again",
        ) from None
