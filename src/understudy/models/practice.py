"""The practice teacher as an endpoint: its server runs in a process of its own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace

from understudy.errors import SetupError, UsageError
from understudy.models.address import Address
from understudy.models.openai_compatible import OpenAICompatible
from understudy.models.protocol import Quirks, Received
from understudy.practice import TASKS
from understudy.practice.judges import JUDGES
from understudy.settings import Settings


class Practice(OpenAICompatible):
    """``practice:TASK`` or a practice judge; its server lives from the first call to our end."""

    def __init__(self, name: str, settings: Settings, quirks: Quirks | None = None) -> None:
        task = name.removeprefix("practice:")
        known = (*TASKS, *JUDGES)
        if task not in known:
            raise UsageError(f"no practice task {task!r}", f"There are: {', '.join(known)}")
        # The port differs every time; the identity must not, or nothing paid would be found again.
        address = Address(
            name=name,
            provider="practice",
            model=task,
            base_url="http://127.0.0.1/v1",
            key=None,
            key_variable="",
            identity=name,
        )
        super().__init__(
            address,
            quirks or Quirks(),
            timeout_s=settings.timeout,
            max_reply=settings.max_reply,
        )
        self._server: subprocess.Popen[str] | None = None
        self._listening = False
        self._starting = asyncio.Lock()

    async def send(self, body: bytes) -> Received:
        """Send once, starting the server if need be."""
        if not self._listening:
            await self._start()
        return await super().send(body)

    async def models(self) -> list[str]:
        """The practice tasks."""
        await self._start()
        return await super().models()

    async def close(self) -> None:
        """Close the connections and end the server."""
        await super().close()
        if self._server is not None:
            self._server.stdin.close()  # type: ignore[union-attr]  # it ends with that
            self._server.wait()
            self._server.stdout.close()  # type: ignore[union-attr]
            self._server, self._listening = None, False

    async def _start(self) -> None:
        async with self._starting:
            if not self._listening:
                url = await asyncio.to_thread(self._launch)
                self._move(replace(self.address, base_url=url))
                self._listening = True

    def _launch(self) -> str:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "understudy.practice", "--until-stdin-closes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is ours: calls in flight are drained first
        )
        line = self._server.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise SetupError("the practice teacher did not start", "Its own message is above")
        return str(json.loads(line)["url"])
