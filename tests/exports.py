"""Files as fine-tuned models and chat products leave them behind, written for the tests.

The task is to write a date as ISO 8601: the practice server knows it, so it can play the old model.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

SYSTEM = "Write the date in the message as YYYY-MM-DD. Answer with that alone."
MONTHS = "January February March April May June July August September October November December"

PLANTED = {
    "OpenAI key": "sk-proj-Zx9" + "aB3dE6gH" * 5,
    "Anthropic key": "sk-ant-api03-" + "Qw7_er-T" * 6,
    "AWS key": "AKIA" + "Q7ZPLM4X9RT2WB5K",
    "GitHub token": "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "Slack token": "xoxb-" + "1234567890-0987654321-AbCdEfGhIjKlMnOp",
    "Google key": "AIza" + "SyD4x7Kq9LmN2pR5tV8wYzA1bC3dE6fG9hJ",
    "Stripe key": "sk_live_" + "51HqLyjWDarjtT1zdp7dcABCD",
    "Hugging Face token": "hf_" + "abCdEfGhIjKlMnOpQrStUvWxYz01234567",
    "JSON web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_Xg",
    "password in a URL": "hunter2Correct9",
    "key in a header": "Zm9vYmFyOmJhenF1eDEyMzQ1Njc4OTA",
    "private key": "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7",
}
"""Kind to the part of it that nobody may find again."""


def planted(kind: str) -> str:
    """The secret as it stands in a message."""
    secret = PLANTED[kind]
    return {
        "password in a URL": f"postgres://app:{secret}@db.internal:5432/orders",
        "key in a header": f'curl -H "Authorization: Bearer {secret}" https://api.example.com',
        "private key": f"-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----",
    }.get(kind, secret)


def dates(seed: int) -> Iterator[tuple[str, str]]:
    """A written date and its ISO form, again and again others."""
    draw = random.Random(seed)
    for number in draw.sample(range(150 * 12 * 28), 150 * 12 * 28):
        year, month, day = 1900 + number // 336, number // 28 % 12 + 1, number % 28 + 1
        yield f"{day} {MONTHS.split()[month - 1]} {year}", f"{year}-{month:02}-{day:02}"


def turns(pairs: Iterable[tuple[str, str]], system: str = SYSTEM) -> list[dict[str, Any]]:
    """One conversation as OpenAI writes it."""
    first = [{"role": "system", "content": system}] if system else []
    return [
        *first,
        *(
            {"role": role, "content": text}
            for pair in pairs
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ),
    ]


def fine_tuning(rows: int, seed: int = 1, rounds: int = 1, system: str = SYSTEM) -> list[Any]:
    """Rows of a fine-tuning file, ``rounds`` questions each."""
    stream = dates(seed)
    return [{"messages": turns([next(stream) for _ in range(rounds)], system)} for _ in range(rows)]


def chatgpt(rows: int, seed: int = 2, rounds: int = 2) -> list[Any]:
    """ChatGPT's conversations.json: a tree each, with a hidden root and one regenerated answer."""
    stream = dates(seed)
    return [_tree(number, [next(stream) for _ in range(rounds)]) for number in range(rows)]


def _tree(number: int, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}

    def hang(parent: str | None, role: str, text: str, **more: Any) -> str:
        name = f"{number}-{len(mapping)}"
        message = {
            "id": name,
            "author": {"role": role, "name": None, "metadata": {}},
            "content": {"content_type": "text", "parts": [text]},
            "status": "finished_successfully",
            "weight": 1.0,
            "recipient": "all",
            "metadata": {},
        }
        mapping[name] = {
            "id": name, "message": message | more, "parent": parent, "children": [],
        }  # fmt: skip
        if parent is not None:
            mapping[parent]["children"].append(name)
        return name

    at = hang(None, "system", "", metadata={"is_visually_hidden_from_conversation": True})
    for question, answer in pairs:
        at = hang(at, "user", question)
        hang(at, "assistant", "I am not sure about that date.")  # regenerated: another branch
        at = hang(at, "assistant", answer)
    return {"title": "Dates", "mapping": mapping, "current_node": at, "conversation_id": number}


def completions(rows: int, seed: int = 3) -> list[Any]:
    """OpenAI's stored completions, with the messages that were asked put beside the choices."""
    stream = dates(seed)
    found = []
    for number, (question, answer) in zip(range(rows), stream, strict=False):
        asked = turns([(question, "")])[:-1]
        found.append(
            {
                "id": f"chatcmpl-{number}",
                "object": "chat.completion",
                "model": "gpt-3.5-turbo-0125",
                "metadata": {},
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "stop",
                        "message": {"role": "assistant", "content": answer, "refusal": None},
                    }
                ],
                "messages": [
                    {"id": f"chatcmpl-{number}-{at}", "content_parts": None, **turn}
                    for at, turn in enumerate(asked)
                ],
            }
        )
    return found


def sharegpt(rows: int, seed: int = 4) -> list[Any]:
    """ShareGPT's rows."""
    stream = dates(seed)
    return [
        {
            "id": str(number),
            "system": SYSTEM,
            "conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": said}],
        }
        for number, (asked, said) in zip(range(rows), stream, strict=False)
    ]


def lines(path: Path, rows: Iterable[Any]) -> Path:
    """Write rows as JSONL; a text is a line as it stands."""
    texts = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return path


def array(path: Path, rows: list[Any]) -> Path:
    """Write rows as one indented JSON array."""
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
    return path
