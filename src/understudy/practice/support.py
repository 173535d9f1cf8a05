"""Customers' messages to a small shop, to JSON: order number, product, what they want.

What they say is in ``support_phrases.py``, how it is understood in ``support_reader.py``.
"""

from __future__ import annotations

import json
from random import Random

from understudy.practice.catalogue import PRODUCTS
from understudy.practice.cells import attribute, draw, generator, never
from understudy.practice.support_phrases import (
    CAUSES,
    CLOSINGS,
    GREETINGS,
    MOODS,
    NAMES,
    ORDERS,
    SPELLINGS,
    THINGS,
    WISHES,
)
from understudy.practice.support_reader import CUES, OTHER, intent, order_number, product
from understudy.task import Cell, OutputField, Plan, Spec

DESCRIPTION = (
    "A model that reads a customer's message and answers with the order number, the product and "
    "what they want, as JSON"
)

MOST_CHARS = 200

INTENTS = (*CUES, OTHER)

MEANINGS = {
    "cancel": "stop an order before it is sent",
    "refund": "get the money back",
    "exchange": "get another one in its place",
    "invoice": "get an invoice or a receipt",
    "damaged": "it is broken or does not work",
    "delivery": "it has not come, or when it will",
    "other": "anything else",
}

RULES = (
    "order: the five digits of the order number alone: #48213 and 48-213 are both 48213.",
    "product: the catalogue's name, whatever the customer calls it. The first one named counts.",
    "intent: what is asked for counts, not what is only reported: broken, money back is refund.",
    f"Of several intents the first counts, in this order: {', '.join(INTENTS)}.",
    "order and product are null if the message does not name them.",
    'One line of JSON with the keys in this order, one space after each ":" and ",".',
)


def spec() -> Spec:
    """Support: a short message in, one line of JSON with three keys out."""
    nothing = _json(None, None, OTHER)
    return Spec(
        title="Support messages to JSON",
        input="A short message of a customer to a shop",
        output="A JSON object: order number, product and intent",
        kind="json",
        fields=(
            OutputField(name="order", type="string", description="five digits", nullable=True),
            OutputField(
                name="product",
                type="string",
                description="name in the catalogue",
                values=tuple(PRODUCTS),
                nullable=True,
            ),
            OutputField(
                name="intent", type="string", description="what the customer wants", values=INTENTS
            ),
        ),
        language="English",
        rules=RULES,
        out_of_scope=nothing,
        assumptions=("A message has one order and one wish.",),
        questions=("Which intent counts if a customer has two (assumed: the order in the rules)?",),
        system_message=_system_message(nothing),
    )


def plan() -> Plan:
    """Every intent and product; in one of four registers."""
    without_cause = [name for name in INTENTS if name not in CAUSES]
    return Plan(
        attributes=(
            attribute("intent", dict.fromkeys(INTENTS, 2.0) | {OTHER: 1.0}),
            attribute("product", dict.fromkeys(PRODUCTS, 1.0) | {"not named": 1.0}),
            attribute("name", {"the catalogue's": 2, "another": 1}),
            attribute("order", {**dict.fromkeys(SPELLINGS, 2.0), "five figures": 4, "missing": 1}),
            attribute("register", dict.fromkeys(GREETINGS, 1.0)),
            attribute("cause", {"not told": 2, "told": 1}),
        ),
        impossible=(
            *never("cause", "told", "intent", *without_cause),
            *never("product", "not named", "name", "another"),
        ),
    )


def inputs(cell: Cell, how_many: int, seed: int) -> list[str]:
    """Write ``how_many`` messages for ``cell``; what it leaves open is drawn from the plan."""
    whole, rng = plan(), generator(cell, seed)
    return [write(draw(whole, rng, cell), rng)[0] for _ in range(how_many)]


def answer(text: str) -> str:
    """Read any message: one line of JSON, as the spec says."""
    return _json(order_number(text), product(text), intent(text))


def write(cell: Cell, rng: Random) -> tuple[str, str]:
    """Write one message as ``cell`` asks. Returns the text and the true answer."""
    named = None if cell["product"] == "not named" else cell["product"]
    order = None if cell["order"] == "missing" else f"{rng.randint(10_000, 99_999)}"
    text = _message(cell, named, order, rng)
    while len(text) > MOST_CHARS:
        text = _message(cell, named, order, rng)
    return text, _json(order, named, cell["intent"])


def _message(cell: Cell, named: str | None, order: str | None, rng: Random) -> str:
    register = cell["register"]
    said = [rng.choice(WISHES[cell["intent"]]).format(it=_thing(cell, named, rng))]
    if cell["cause"] == "told":
        said.append(rng.choice(CAUSES[cell["intent"]]))
    if order:
        number = SPELLINGS[cell["order"]].format(order[:2], order[2:])
        said.append(rng.choice(ORDERS).format(n=number))
    rng.shuffle(said)
    parts = [
        rng.choice(GREETINGS[register]),
        rng.choice(MOODS[register]),
        *map(_sentence, said),
        rng.choice(CLOSINGS[register]).format(name=rng.choice(NAMES)),
    ]
    text = " ".join(part for part in parts if part)
    return text.lower() if register == "terse" else text


def _thing(cell: Cell, named: str | None, rng: Random) -> str:
    if named is None:
        return rng.choice(THINGS)
    own, *others = PRODUCTS[named]
    return f"{rng.choice(('my', 'the'))} {own if cell['name'] != 'another' else rng.choice(others)}"


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:] + ("" if words.endswith("?") else ".")


def _json(order: str | None, named: str | None, wish: str) -> str:
    return json.dumps({"order": order, "product": named, "intent": wish}, ensure_ascii=False)


def _system_message(nothing: str) -> str:
    catalogue = "\n".join(
        f"- {name}" + f" (also called {', '.join(others)})"
        for name, (_, *others) in PRODUCTS.items()
    )
    wishes = "\n".join(f"- {name}: {meaning}" for name, meaning in MEANINGS.items())
    rules = "\n".join(f"- {rule}" for rule in RULES)
    return (
        'Read the customer\'s message and answer with one JSON object: {"order": ..., '
        f'"product": ..., "intent": ...}}.\nThe catalogue:\n{catalogue}\nThe intents:\n{wishes}\n'
        f"The rules:\n{rules}\nIf it is no message to the shop, answer {nothing}"
    )
