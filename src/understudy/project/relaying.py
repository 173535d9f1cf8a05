"""A student that a host trained, asked there on behalf of whoever asks this machine's server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, suppress

from understudy.errors import ProjectBusy
from understudy.models.protocol import Generation, Piece, Reply, Request
from understudy.project import hosting
from understudy.project.paid import DRAIN_S, behind_ledger
from understudy.project.workplace import Workplace
from understudy.store.ledger import Ledger


class Relayed:
    """A model behind a wire that writes its whole answer at once.

    It goes through the project's ledger: within the budget, and the same question with the same
    seed is bought once. A question that is on its way is paid for: its answer is stored though
    whoever asked has left, for when it is asked again.
    """

    def __init__(self, place: Workplace, name: str) -> None:
        self._place, self._name = place, name
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._ledger: Ledger | None = None
        self._under_way: set[asyncio.Task[Reply]] = set()

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
        ledger = await self._opened()
        ledger.ask_again()
        buying = asyncio.create_task(ledger.complete(request))
        self._under_way.add(buying)
        buying.add_done_callback(self._bought)
        reply = await asyncio.shield(buying)
        text = reply.text
        for stop in generation.stop:
            text = text.partition(stop)[0]
        finish = "length" if reply.finish == "length" and text == reply.text else "stop"
        return Piece(
            text,
            finish=finish,
            input_tokens=reply.input_tokens or 0,
            output_tokens=reply.output_tokens or 0,
        )

    async def close(self) -> None:
        """Wait a while for what is on its way, then give it up; close the connections."""
        if self._ledger is not None and self._under_way:
            self._ledger.stop()
            patience = max(DRAIN_S, 2 * self._ledger.slowest_s)
            if (await asyncio.wait(self._under_way, timeout=patience))[1]:
                self._ledger.abandon()
        await self._stack.aclose()

    def _bought(self, buying: asyncio.Task[Reply]) -> None:
        self._under_way.discard(buying)
        if not buying.cancelled():
            buying.exception()  # whoever waited was told; asyncio need not tell it too

    async def _opened(self) -> Ledger:
        async with self._opening:
            if self._ledger is None:
                place = self._place
                await asyncio.to_thread(self._put_in_order)
                endpoint, price = hosting.endpoint(place, self._name)
                self._ledger = await self._stack.enter_async_context(
                    behind_ledger(place.database, place.settings, endpoint, price, place.say)
                )
        return self._ledger

    def _put_in_order(self) -> None:
        """Count what a dead server had on its way, and let the settings' budget take force.

        Whoever writes at this moment has done both.
        """
        with suppress(ProjectBusy), self._place.writing():
            pass
