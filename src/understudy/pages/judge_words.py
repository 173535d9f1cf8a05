"""What a judge said and how far it may be believed, in lines for people."""

from __future__ import annotations

from understudy.judgement import Judgement


def judge_lines(found: Judgement) -> list[str]:
    """What a judge said, and how far it may be believed."""
    lines = [found.sentence]
    known = [f"{one.passed} of {one.asked} {one.kind}" for one in found.canaries]
    if known:
        lines.append(f"judge: ruled rightly on pairs of known verdict: {', '.join(known)}")
    if (by := found.calibration) is not None:
        told = f"{by.agree} of {by.labels} labelled pairs ({by.low:.0%} to {by.high:.0%})"
        if by.kappa is not None:
            told += f", kappa {by.kappa:.2f} ({by.kappa_low:.2f} to {by.kappa_high:.2f})"
        lines.append(f"judge: agrees with people on {told}")
    lines += [
        f"judge: no verdict on {one.missing} of {one.items} pairs of {one.first} and {one.second}"
        for one in found.contests
        if one.missing
    ]
    lines += found.notes
    if found.suspects:
        lines.append(f"judge: answers to items {list(found.suspects)} seem to speak to the judge")
    return lines
