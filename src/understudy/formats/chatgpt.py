"""One conversation of ChatGPT's data export (an element of its conversations.json).

The messages hang in a tree (``mapping``: a node has a ``message``, a ``parent``, ``children``);
regenerated answers and edited questions are branches. What is read is the branch that the person
saw last, from ``current_node`` up to the root.

Hidden messages, thoughts and what was said between the assistant and its tools are left out.
Messages of one speaker in a row are one turn. An answer that rests on more than the text before it
(a tool's result, a picture, a file) or that was broken off is context and not learned: nobody could
know it from what is there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from understudy.example import Role
from understudy.formats.source import BadRow, Row
from understudy.formats.turns import Turn

_SPEAKERS: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
_WHOLE = ("finished_successfully", "", None)
"""States of a message that was not broken off."""
_BROKEN_OFF = ("max_tokens", "interrupted")


class _Said(NamedTuple):
    role: Role
    text: str
    alone: bool
    """True if the text alone was said or needed: no picture, no file, no tool."""
    whole: bool


def is_chatgpt(row: Row) -> bool:
    """True if the row looks like a conversation of the export."""
    return isinstance(row.get("mapping"), dict)


def chatgpt_turns(row: Row) -> list[Turn]:
    """The turns of the branch that was seen last. Raises BadRow if there is none."""
    turns: list[Turn] = []
    sound = True  # until something else than text came before
    for said in _branch(row):
        if said is None:
            sound = False
            continue
        if said.role == "user":
            sound = said.alone
        learned = said.role == "assistant" and sound and said.whole and said.alone
        if turns and turns[-1].role == said.role:
            before = turns.pop()
            text = f"{before.content}\n\n{said.text}"
            # of an answer in parts all must be sound, of a question there is nothing to learn
            turns.append(Turn(said.role, text, learned and before.learned))
        else:
            turns.append(Turn(said.role, said.text, learned))
    if not turns:
        raise BadRow("a conversation without a text")
    return turns


def _branch(row: Row) -> list[_Said | None]:
    """What was said from the root on; None stands for a tool's part."""
    nodes: dict[str, Any] = row["mapping"]
    at: object = row.get("current_node")
    if not isinstance(at, str) or at not in nodes:
        at = _newest_leaf(nodes)
    path: list[Any] = []
    seen: set[str] = set()
    while isinstance(at, str) and isinstance(nodes.get(at), dict):
        if at in seen:
            raise BadRow("the tree of the conversation runs in a circle")
        seen.add(at)
        path.append(nodes[at].get("message"))
        at = nodes[at].get("parent")
    said = [_said(message) for message in reversed(path) if isinstance(message, dict)]
    return [one for one in said if not isinstance(one, str)]


def _newest_leaf(nodes: dict[str, Any]) -> str | None:
    """The last of the nodes that nothing hangs on."""
    leaves = [
        name for name, node in nodes.items() if isinstance(node, dict) and not node.get("children")
    ]
    return leaves[-1] if leaves else None


def _said(message: dict[str, Any]) -> _Said | str | None:
    """One message; None for a tool's part, an empty text for what is left out."""
    author = message.get("author")
    name = author.get("role") if isinstance(author, dict) else None
    data = message.get("metadata")
    data = data if isinstance(data, dict) else {}
    content = message.get("content")
    kind = content.get("content_type") if isinstance(content, dict) else None
    if name == "tool" or (name == "assistant" and message.get("recipient") not in ("all", None)):
        return None
    if data.get("is_visually_hidden_from_conversation") or message.get("weight") == 0:
        return ""
    role = _SPEAKERS.get(name) if isinstance(name, str) else None
    if role is None or kind not in ("text", "multimodal_text"):
        return ""
    parts = content.get("parts") if isinstance(content, dict) else None
    parts = parts if isinstance(parts, list) else []
    texts = [part for part in parts if isinstance(part, str) and part.strip()]
    alone = len([part for part in parts if part]) == len(texts) and not data.get("attachments")
    if not texts and alone:
        return ""
    finish = data.get("finish_details")
    ended = finish.get("type") if isinstance(finish, dict) else None
    whole = message.get("status") in _WHOLE and ended not in _BROKEN_OFF
    return _Said(role, "\n\n".join(texts) or "[no text]", alone, whole)
