"""JSON that follows a schema: which tokens may come next, told by llguidance."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from understudy.errors import SetupError
from understudy.models.huggingface import first_line
from understudy.models.protocol import CallFailed

_SPACE = r"\x20|\x0A[\x20\x09]{0,20}"
"""White space that may stand between two parts: a space, or a new line with its indent.

More would be JSON too, but a model could write it for ever.
"""


class Grammars:
    """Makes the grammars of one model's answers; the vocabulary is read once (about a second)."""

    def __init__(self, tokenizer: Any, *, vocabulary: int, ends: list[int]) -> None:
        """``vocabulary``: width of the model's logits; ``ends``: the tokens that end an answer.

        Raises SetupError if llguidance is missing or cannot read the tokenizer.
        """
        try:
            import llguidance
            from llguidance.hf import from_tokenizer
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] != "llguidance":
                raise
            raise SetupError(
                "Answers that follow a JSON schema need an extra package",
                'pip install "understudy[serve]"',
            ) from None
        self._llguidance: Any = llguidance
        self._vocabulary = vocabulary
        try:
            self._tokenizer = from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=ends)
        except Exception as error:  # noqa: BLE001  the reader's errors have no common base
            raise SetupError(
                f"This model's tokenizer cannot be held to a JSON schema: {first_line(error)}",
                "Ask for plain text instead",
            ) from None

    def of(self, schema: dict[str, Any]) -> Grammar:
        """The grammar of JSON that follows ``schema``. Raises CallFailed if it cannot be used."""
        matcher = self._llguidance.LLMatcher
        try:
            grammar = matcher.grammar_from_json_schema(
                json.dumps(schema or {"type": "object"}),
                overrides={"whitespace_pattern": _SPACE},
            )
            found = matcher(self._tokenizer, grammar, log_level=0)
        except (TypeError, ValueError) as error:
            raise CallFailed(f"the JSON schema cannot be used: {first_line(error)}") from None
        if found.is_error():
            reason = (found.get_error().strip() or "it is not understood").splitlines()[0]
            raise CallFailed(f"the JSON schema cannot be used: {reason}")
        return Grammar(found, self._vocabulary)


class Grammar:
    """Where one answer stands in its grammar."""

    def __init__(self, matcher: Any, vocabulary: int) -> None:
        self._matcher, self._vocabulary = matcher, vocabulary

    def allowed(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which tokens may come next, one truth for each of the vocabulary."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        return np.unpackbits(bits, bitorder="little")[: self._vocabulary].astype(np.bool_)

    def take(self, token: int) -> bool:
        """Go on with a token. Returns True if nothing but the end may follow.

        Raises CallFailed if the grammar became too complex to follow.
        """
        if not self._matcher.consume_token(token) or self._matcher.is_error():
            reason = (self._matcher.get_error().strip() or "an unexpected token").splitlines()[0]
            raise CallFailed(f"the JSON schema cannot be followed: {reason}")
        return bool(self._matcher.is_stopped())
