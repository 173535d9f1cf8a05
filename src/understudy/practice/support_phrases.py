"""The fragments that customers' messages are put together from.

``{it}`` stands for the thing bought. No greeting, mood or closing says anything about a wish.
"""

from __future__ import annotations

WISHES = {
    "refund": (
        "I would like a refund for {it}",
        "please refund {it}",
        "I want my money back for {it}",
        "can I get my money back for {it}?",
        "kindly reimburse me for {it}",
        "how do I get reimbursed for {it}?",
        "I am asking for a refund on {it}",
    ),
    "exchange": (
        "I would like to exchange {it}",
        "can I swap {it} for another colour?",
        "please send a replacement for {it}",
        "I need {it} in a different size",
        "could you replace {it}?",
        "I want to swap {it} for a different model",
        "is it possible to exchange {it}?",
    ),
    "cancel": (
        "please cancel {it}",
        "I want to cancel {it}",
        "I have to cancel {it} before it leaves",
        "please do not ship {it}",
        "don't send {it}, please",
        "can I still cancel {it}?",
        "please call off the purchase of {it}",
    ),
    "invoice": (
        "I need an invoice for {it}",
        "please send me the receipt for {it}",
        "could I have a VAT invoice for {it}?",
        "where do I find the invoice for {it}?",
        "my accountant needs a receipt for {it}",
        "the invoice for {it} is missing",
        "please bill {it} to my company",
    ),
    "damaged": (
        "{it} arrived broken",
        "{it} came damaged",
        "{it} does not work",
        "{it} is cracked",
        "{it} stopped working after a day",
        "there is a big scratch on {it}",
        "{it} was in pieces when I opened the box",
        "{it} is faulty",
    ),
    "delivery": (
        "where is {it}?",
        "{it} has not arrived",
        "I am still waiting for {it}",
        "when will {it} arrive?",
        "{it} is a week late",
        "is there any news about the delivery of {it}?",
        "the tracking page of {it} shows nothing",
    ),
    "other": (
        "how do I clean {it}?",
        "{it} is wonderful",
        "do you sell spare parts for {it}?",
        "how long is the guarantee on {it}?",
        "thank you for {it}, I love it",
        "is {it} made in Europe?",
    ),
}
"""Ways of saying each intent."""

_FAULTS = ("it arrived broken", "it does not work", "it is cracked", "it is faulty")
_DELAYS = ("it has not arrived", "it is two weeks late", "I am still waiting", "it never came here")
CAUSES = {
    "refund": _FAULTS + _DELAYS,
    "exchange": _FAULTS,
    "cancel": _DELAYS,
}
"""Reports that may stand beside a wish, and do not count then."""

THINGS = ("my order", "my purchase", "the item", "what I bought", "my parcel")
"""Ways of not naming the product."""

ORDERS = (
    "my order number is {n}",
    "it is order {n}",
    "order number: {n}",
    "order no. {n}",
    "the order is {n}",
    "this is about order {n}",
)

SPELLINGS = {
    "five figures": "{0}{1}",
    "with a hash": "#{0}{1}",
    "with a dash": "{0}-{1}",
}
"""How an order number is spelled, from its first two figures and its last three."""

GREETINGS = {
    "formal": ("Dear Sir or Madam,", "Dear support team,", "Good morning,", "Good afternoon,"),
    "friendly": ("Hi there!", "Hello!", "Hi team,", "Hey,", "Good evening!"),
    "angry": ("Listen,", "Seriously?", "To whom it may concern:", "Hello?"),
    "terse": ("",),
}

MOODS = {
    "formal": ("", "", "I am writing about a recent purchase.", "I hope you can help me."),
    "friendly": ("", "", "Hope you are all well!", "Nice shop, by the way.", "Quick question."),
    "angry": ("", "This is unacceptable!", "I am fed up.", "What a mess!", "Never again."),
    "terse": ("",),
}

CLOSINGS = {
    "formal": ("Kind regards, {name}", "Yours faithfully, {name}", "Best regards, {name}"),
    "friendly": ("Thanks, {name}", "Cheers, {name}", "Thank you so much! {name}", "Bye, {name}"),
    "angry": ("I expect an answer today.", "Do something!", "{name}, very annoyed"),
    "terse": ("", "thanks", "{name}"),
}

NAMES = (
    *("Anna", "Ben", "Chen", "Daria", "Emre", "Fatima", "Goran", "Hana", "Ivan", "Julia", "Kofi"),
    *("Lena", "Marek", "Nora", "Omar", "Priya", "Rosa", "Sven", "Tomas", "Yuki"),
)
