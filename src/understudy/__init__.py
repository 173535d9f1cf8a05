"""understudy: describe a task in a sentence, get a small model that does it, with proof."""
