"""Chat completions as OpenAI writes them, whole and in chunks."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from understudy import __version__
from understudy.models.protocol import Piece, TokenLogprob
from understudy.project.serving import Served
from understudy.server.parameters import Asked

LEAST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON has no word for."""


class Answer:
    """What all parts of one answer have in common."""

    def __init__(self, asked: Asked, served: Served) -> None:
        self._asked = asked
        self._common = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": asked.model,
            "service_tier": "default",
            "system_fingerprint": _fingerprint(served),
            "understudy_model": served.model,
        }
        self.headers = {"x-understudy-model": quote(served.model, safe=":/@.~ ")}

    def whole(self, choices: Sequence[Piece]) -> dict[str, Any]:
        """The answer to a request that is no stream, from every choice as one piece."""
        return {
            **self._common,
            "object": "chat.completion",
            "choices": [
                {
                    "index": index,
                    "message": {
                        "role": "assistant",
                        "content": piece.text,
                        "refusal": None,
                        "annotations": [],
                    },
                    "logprobs": self._logprobs(piece.logprobs),
                    "finish_reason": piece.finish,
                }
                for index, piece in enumerate(choices)
            ],
            "usage": usage(choices),
        }

    def begin(self, index: int) -> dict[str, Any]:
        """The first chunk of a choice: who speaks."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return self._chunk(index, delta, self._logprobs(()), None)

    def chunks(self, index: int, piece: Piece) -> Iterable[dict[str, Any]]:
        """The chunks of one piece: its text, and the end if it is the last."""
        if piece.text or piece.logprobs:
            delta = {"content": piece.text}
            yield self._chunk(index, delta, self._logprobs(piece.logprobs), None)
        if piece.finish is not None:
            yield self._chunk(index, {}, None, piece.finish)

    def end(self, last: Sequence[Piece]) -> Iterable[dict[str, Any]]:
        """The chunk behind all choices, if it was asked for: what was used."""
        if self._asked.include_usage:
            yield {**self._chunk(0, {}, None, None), "choices": [], "usage": usage(last)}

    def _chunk(
        self, index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None, end: str | None
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": end}
        chunk = {**self._common, "object": "chat.completion.chunk", "choices": [choice]}
        return {**chunk, "usage": None} if self._asked.include_usage else chunk

    def _logprobs(self, tokens: Iterable[TokenLogprob]) -> dict[str, Any] | None:
        if self._asked.top_logprobs is None:
            return None
        return {"content": [_token(token) for token in tokens], "refusal": None}


def usage(last: Sequence[Piece]) -> dict[str, Any]:
    """Tokens in all; the choices share one prompt."""
    read, written = last[0].input_tokens, sum(piece.output_tokens for piece in last)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _token(token: TokenLogprob) -> dict[str, Any]:
    return {
        **_one(token.token, token.logprob, token.bytes),
        "top_logprobs": [_one(*top) for top in token.top],
    }


def _one(token: str, logprob: float, raw: bytes) -> dict[str, Any]:
    return {"token": token, "logprob": max(logprob, LEAST_LOGPROB), "bytes": list(raw)}


def _fingerprint(served: Served) -> str:
    """The same for as long as the same request with the same seed gives the same answer."""
    whole = f"{__version__} {served.model} {served.folder} {served.created}"
    return f"fp_{hashlib.sha256(whole.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}"
