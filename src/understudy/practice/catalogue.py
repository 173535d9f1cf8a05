"""What the shop of the support task sells, and what its customers call it."""

from __future__ import annotations

PRODUCTS = {
    "kettle": ("kettle", "electric kettle", "water boiler"),
    "desk lamp": ("desk lamp", "table lamp", "reading lamp"),
    "headset": ("headset", "pair of headphones", "pair of earphones"),
    "backpack": ("backpack", "rucksack", "hiking bag"),
    "coffee grinder": ("coffee grinder", "coffee mill", "bean grinder"),
    "raincoat": ("raincoat", "rain jacket", "waterproof jacket"),
    "keyboard": ("keyboard", "wireless keyboard", "computer keyboard"),
    "yoga mat": ("yoga mat", "exercise mat", "gym mat"),
}
"""Name in the catalogue, to the names in use: the catalogue's own first."""
