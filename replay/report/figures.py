"""The figures beside a build report."""

from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure

from sepsis_cql.replay.report.clinical import ClinicalTables
from sepsis_cql.replay.rows.cohort import Attrition

BLUE = "#3b6ea5"


def draw_attrition(attrition: list[Attrition], file: Path) -> None:
    """Draw a PNG with one bar a criterion: the stays it left, labeled with those it removed."""
    figure = Figure(figsize=(9, 0.7 * len(attrition) + 1), layout="constrained")
    axes = figure.subplots()
    names = [fill(row.description, 48) for row in attrition]
    bars = axes.barh(names, [row.stays_remaining for row in attrition], color=BLUE)
    axes.bar_label(
        bars, [f"{row.stays_remaining:,} left, {row.stays_removed:,} removed" for row in attrition], padding=4
    )
    axes.invert_yaxis()
    axes.margins(x=0.3)
    axes.set_xlabel("ICU stays")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)


def draw_ages(tables: ClinicalTables, file: Path) -> None:
    """Draw a PNG with one line a feature: median and 95 % quantile of the age of what the policy sees, in hours."""
    names = sorted(tables.value_ages, key=lambda name: tables.value_ages[name].high)
    figure = Figure(figsize=(8, 0.24 * len(names) + 1), layout="constrained")
    axes = figure.subplots()
    ages = [tables.value_ages[name] for name in names]
    axes.hlines(names, [age.median for age in ages], [age.high for age in ages], color=BLUE)
    axes.plot([age.median for age in ages], names, "o", color=BLUE, label="median")
    axes.plot([age.high for age in ages], names, "|", color=BLUE, label="95 %")
    axes.set_xlabel("age of the value at the step, hours")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)


def draw_missing(tables: ClinicalTables, file: Path) -> None:
    """Draw a PNG with one row a feature and one column a group: the share of its steps in which it is unknown."""
    names = sorted(next(iter(tables.missing.values()), {}))
    shares = [[features[name].unknown for features in tables.missing.values()] for name in names]
    figure = Figure(figsize=(2 + 1.1 * len(tables.missing), 0.24 * len(names) + 1.2), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(
        np.array(shares, float).reshape(len(names), -1), cmap="Blues", vmin=0, vmax=1, aspect="auto"
    )
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks(range(len(tables.missing)), [fill(name, 8) for name in tables.missing])
    figure.colorbar(image, label="share of steps without a value")
    figure.savefig(file, dpi=120)


def draw_actions(tables: ClinicalTables, file: Path) -> None:
    """Draw a PNG with one grid of doses a group: the share of its steps in each action, small ones left white."""
    figure = Figure(figsize=(2.2 * len(tables.actions), 2.6), layout="constrained")
    for axes, (name, rows) in zip(
        np.atleast_1d(figure.subplots(1, len(tables.actions))), tables.actions.items(), strict=True
    ):
        counts = np.array([[np.nan if cell == "<10" else float(cell) for cell in row] for row in rows])
        axes.imshow(counts / max(np.nansum(counts), 1), origin="lower", cmap="Blues", vmin=0)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("fluid", fontsize=8)
        axes.set_ylabel("vasopressor", fontsize=8)
    figure.savefig(file, dpi=120)
