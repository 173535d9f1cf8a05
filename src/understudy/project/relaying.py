"""A student that a host trained, asked there on behalf of whoever asks this machine's server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

from understudy.models.protocol import Generation, Piece, Request
from understudy.project import hosting
from understudy.project.paid import behind_ledger
from understudy.project.workplace import Workplace
from understudy.store.ledger import Ledger


class Relayed:
    """A model behind a wire that writes its whole answer at once.

    It goes through the project's ledger: within the budget, and the same question with the same
    seed is bought once.
    """

    def __init__(self, place: Workplace, name: str) -> None:
        self._place, self._name = place, name
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._ledger: Ledger | None = None

    async def stream(self, generation: Generation) -> AsyncGenerator[Piece, None]:
        """The answer, in one piece. Raises like ``write``."""
        yield await self.write(generation)

    async def write(self, generation: Generation) -> Piece:
        """The answer. Raises what a call raises, and BudgetReached."""
        request = Request(
            generation.messages,
            generation.max_tokens,
            schema=generation.schema or None,
            schema_name="answer" if generation.schema else "",
            temperature=generation.temperature,
            sample=generation.seed or 0,
            purpose="serve",
        )
        reply = await (await self._opened()).complete(request)
        text, finish = reply.text, "length" if reply.finish == "length" else "stop"
        for stop in generation.stop:
            text = text.partition(stop)[0]
        return Piece(
            text,
            finish=finish,
            input_tokens=reply.input_tokens or 0,
            output_tokens=reply.output_tokens or 0,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._stack.aclose()

    async def _opened(self) -> Ledger:
        async with self._opening:
            if self._ledger is None:
                place = self._place
                endpoint, price = hosting.endpoint(place, self._name)
                self._ledger = await self._stack.enter_async_context(
                    behind_ledger(place.database, place.settings, endpoint, price, place.say)
                )
        return self._ledger
