"""How every figure looks: one size of text, colors that color-blind readers tell apart, its conclusion above it."""

import re
from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sepsis_cql.evaluation.record import Evaluation
from sepsis_cql.evaluation.report.results import Result
from sepsis_cql.replay.rows.actions import N_BINS

POLICY, CLINICIANS, SECOND, TRUTH = "#0072B2", "#4D4D4D", "#D55E00", "#007F5F"  # after Okabe and Ito
SIZE = 9.0  # points, of every text
STYLE: dict[str, Any] = {
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize", "legend.fontsize"), SIZE),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "figure.titlesize"), SIZE),
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titleweight": "bold",
    "figure.titleweight": "bold",
    "legend.frameon": False,
    "lines.markersize": 5,
    "lines.linewidth": 1.5,
}
CHARACTERS = 13  # of text on an inch
SOURCES = {"synthetic": "SIMULATED PATIENTS", "mimic-iv-demo": "MIMIC-IV demo", "mimic-iv": "MIMIC-IV"}
Z = 1.96  # of a 95% interval


def frame(figure: Figure, found: Evaluation, conclusion: str) -> None:
    """Write what to conclude above a figure and where its data come from below it."""
    frame_source(
        figure, found.replay.source.name, f"{found.split} split, {found.n_episodes} episodes", conclusion
    )


def frame_source(figure: Figure, source: str, facts: str, conclusion: str) -> None:
    """Write what to conclude above a figure and the name of its source with some facts below it."""
    width = round(figure.get_figwidth() * CHARACTERS)
    figure.suptitle(fill(conclusion, width - 4), x=0.01, ha="left")
    color = SECOND if source == "synthetic" else CLINICIANS
    text = f"{SOURCES.get(source, source)}, {facts}. Research only."
    figure.supxlabel(text, x=0.01, ha="left", color=color, fontsize=SIZE)


def name_group(group: str) -> str:
    """Return `18 to 49` for the half-open interval `[18.0, 50.0)`, and a care unit by its abbreviation."""
    if short := re.search(r"\(([A-Z/]+)\)$", group):
        return short[1]
    if (ends := re.fullmatch(r"\[([0-9.]+), ([0-9.]+|inf)\)", group)) is None:
        return group.title() if group.isupper() and len(group) > 1 else group
    low, high = map(float, ends.groups())
    return f"{low:g} or more" if high == float("inf") else f"{low:g} to {high - 1:g}"


def name_doses(edges: Sequence[float] | None) -> list[str]:
    """Return a label for each dose bin, such as `0`, `to 0.04`, `0.04-0.07`, `0.07-0.14`, `over 0.14`."""
    if edges is None:
        return ["0", *(f"quarter {number}" for number in range(1, N_BINS))]
    low, middle, high = (f"{edge:.2g}" if edge < 10 else f"{edge:.0f}" for edge in edges)
    return ["0", f"to {low}", f"{low}-{middle}", f"{middle}-{high}", f"over {high}"]


def show_share(share: float) -> str:
    """Return a share in percent that is 0% or 100% only of none or all."""
    if 0 < share < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= share < 1 else f"{share:.0%}"


def draw_result(axes: Axes, found: Result, y: float, color: str, marker: str = "o") -> None:
    """Draw a value at a height, with its interval."""
    if found.lower is not None and found.upper is not None:
        axes.plot([found.lower, found.upper], [y, y], color=color)
    axes.plot(found.value, y, marker, color=color, markersize=6)


def draw_key(axes: Axes, label: str, color: str, marker: str = "o", line: str = "-") -> None:
    """Add an entry to the legend."""
    axes.plot([], [], marker=marker, linestyle=line, color=color, label=label)


def share_interval(shares: Sequence[float], sizes: Sequence[int]) -> np.ndarray:
    """Return (2, n) lengths of the 95% Wilson interval below and above each share."""
    p, n = np.asarray(shares, dtype=float), np.asarray(sizes, dtype=float)
    middle = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return np.stack([p - (middle - half), middle + half - p]).clip(min=0)


def label_return(found: Evaluation) -> str:
    """Return the label of an axis of returns."""
    until = "" if found.mortality_days is None else f" within {found.mortality_days} days"
    return f"expected return (−{found.bound:g}: all die{until}, +{found.bound:g}: none)"
