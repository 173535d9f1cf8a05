"""Will a training fit this machine, and what is the largest that does? Nothing heavy is imported.

machine.py   what there is             shape.py    how large the student is
lengths.py   how long the rows are     rates.py    how fast the machine multiplies
need.py      memory, disk and time     words.py    the same to read
largest.py   the best way that fits    smaller.py  the next smaller way, when memory ran out
"""
