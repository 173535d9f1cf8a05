"""Batched generation: what is asked at the same time shares the model's forward passes.

loop.py      the thread: who joins, who leaves, who is told what
batch.py     the passes of rows that join and leave at every token
cache.py     their keys and values
cohort.py    the passes of models whose memory cannot be merged
sampling.py  the next token of every row
grammar.py   JSON that follows a schema
row.py       one generation
text.py      from tokens to the text that is shown
"""
