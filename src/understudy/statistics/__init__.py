"""How sure a figure is: intervals, paired tests, what so many items can show, agreement.

Pure functions of numbers. ``values`` are scores of independent items; where items come in blocks
(near-duplicates of one another), ``blocks`` names the block of each, and blocks take the place of
items: two items that say the same are no more evidence than one.
"""

from understudy.statistics.agreement import Estimate, Kappa, kappa, ppi
from understudy.statistics.blocks import worth
from understudy.statistics.intervals import (
    Interval,
    difference_interval,
    mean_interval,
    paired_shares,
    wilson,
    wilson_mean,
)
from understudy.statistics.paired import holm, mcnemar_exact, sign_flip
from understudy.statistics.power import items_needed, more_items, smallest_difference
from understudy.statistics.resampling import bootstrap

__all__ = [
    "Estimate",
    "Interval",
    "Kappa",
    "bootstrap",
    "difference_interval",
    "holm",
    "items_needed",
    "kappa",
    "mcnemar_exact",
    "mean_interval",
    "more_items",
    "paired_shares",
    "ppi",
    "sign_flip",
    "smallest_difference",
    "wilson",
    "wilson_mean",
    "worth",
]
