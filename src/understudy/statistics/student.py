"""Quantiles of Student's t: numpy has none, and scipy is large to install for one."""

from __future__ import annotations

from functools import lru_cache
from math import atan, exp, lgamma, log, pi, sqrt
from statistics import NormalDist


def t_cdf(t: float, freedom: int) -> float:
    """Share of Student's t distribution below ``t``.

    By the finite series for whole degrees of freedom (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4).
    """
    odd = freedom % 2
    cosine, sine = sqrt(freedom / (freedom + t * t)), t / sqrt(freedom + t * t)
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(odd, freedom - 1, 2):
        total += term
        term *= cosine * cosine * (k + 1) / (k + 2)
    within = sine * total
    if odd:
        within = 2 / pi * (atan(t / sqrt(freedom)) + within)
    return (1 + within) / 2


@lru_cache(maxsize=1024)
def t_quantile(share: float, freedom: int) -> float:
    """The t below which ``share`` (0.5 or more) of the distribution lies."""
    constant = lgamma((freedom + 1) / 2) - lgamma(freedom / 2) - log(freedom * pi) / 2
    t = NormalDist().inv_cdf(share)  # below the quantile, so that Newton's steps never overshoot
    for _ in range(100):
        density = exp(constant - (freedom + 1) / 2 * log(1 + t * t / freedom))
        step = (share - t_cdf(t, freedom)) / density
        t += step
        if abs(step) < 1e-13 * max(1.0, t):
            break
    return t
