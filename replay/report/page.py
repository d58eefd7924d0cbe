"""The build report as a page to read and a figure to look at."""

from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib.figure import Figure

from sepsis_cql.common.storage import write_json
from sepsis_cql.replay.report.counts import ActionCounts, BuildReport
from sepsis_cql.replay.rows.actions import N_BINS
from sepsis_cql.replay.rows.cohort import Attrition
from sepsis_cql.replay.rows.splits import SPLITS

BUILD_REPORT = "build_report.json"


def write_report(directory: Path, report: BuildReport) -> None:
    """Write the build report as JSON and as a page with its figure."""
    write_json(directory / BUILD_REPORT, report.model_dump(mode="json"))
    (directory / "build_report.md").write_text(render_page(report), encoding="utf-8")
    draw_attrition(report.attrition, directory / "attrition.png")


def render_page(report: BuildReport) -> str:
    """Render build_report.json as Markdown, beside which `attrition.png` lies."""
    source, cohort = report.source, report.cohort
    lines = [
        "# Build report",
        "",
        f"Tables: {source.name} {source.version}. State and action: {report.alignment}. "
        f"Replay fingerprint: `{report.fingerprint}`.",
        "",
        f"{cohort.stays:,} ICU stays, {cohort.septic_stays:,} septic; {cohort.episodes:,} episodes "
        f"with {cohort.transitions:,} transitions; {cohort.deaths:,} deaths "
        f"({cohort.mortality:.1%}).",
        "",
        "## Warnings",
        "",
        *([f"- {warning}" for warning in report.warnings] or ["None."]),
        "",
        "## Cohort",
        "",
        "![Stays left after each criterion](attrition.png)",
        "",
        *_table(
            ["criterion", "meaning", "stays removed", "stays left", "patients left"],
            [
                [row.criterion, row.description, row.stays_removed, row.stays_remaining,
                 row.patients_remaining]
                for row in report.attrition
            ],
        ),
        *_table(
            ["split", "patients", "episodes", "transitions", "deaths"],
            [[split, *report.splits[split].model_dump().values()] for split in SPLITS],
        ),
        *_action_section(report.action_grid),
        "## Features",
        "",
        "Share of steps with no value known yet, share without a measurement in the 4 hours before, and the "
        "5 %, 50 % and 95 % quantiles of what is known.",
        "",
        *_table(
            ["feature", "unknown", "not measured", "5 %", "median", "95 %"],
            [
                [name, *map(_share, (row.unknown, row.not_measured)),
                 *map(_number, (row.low, row.median, row.high))]
                for name, row in report.features.items()
            ],
        ),
        "## Tables",
        "",
        *_table(
            ["table", "rows", "published"],
            [[name, rows.rows, _number(rows.published)] for name, rows in report.tables.items()],
        ),
    ]  # fmt: skip
    return "\n".join(lines)


def draw_attrition(attrition: list[Attrition], file: Path) -> None:
    """Draw a PNG with one bar a criterion: the stays it left, labeled with those it removed."""
    figure = Figure(figsize=(9, 0.7 * len(attrition) + 1), layout="constrained")
    axes = figure.subplots()
    names = [fill(row.description, 48) for row in attrition]
    bars = axes.barh(names, [row.stays_remaining for row in attrition], color="#3b6ea5")
    axes.bar_label(
        bars,
        [f"{row.stays_remaining:,} left, {row.stays_removed:,} removed" for row in attrition],
        padding=4,
    )
    axes.invert_yaxis()
    axes.margins(x=0.3)
    axes.set_xlabel("ICU stays")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)


def _action_section(grid: ActionCounts) -> list[str]:
    lines = [
        "## Actions",
        "",
        f"Bin 0 is no dose; edges of bins 1-4: vasopressor {_edges(grid.vasopressor_edges)} "
        f"{grid.vasopressor_unit}, fluid {_edges(grid.fluid_edges)} {grid.fluid_unit}.",
        "",
    ]
    for split in SPLITS:
        rows = [[f"vasopressor {number}", *row] for number, row in enumerate(grid.counts[split])]
        lines += _table([f"{split} steps", *(f"fluid {number}" for number in range(N_BINS))], rows)
    return lines


def _table(header: list[str], rows: list[list[Any]]) -> list[str]:
    cells = [header, ["---"] * len(header), *rows]
    return [
        *(
            "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row) + " |"
            for row in cells
        ),
        "",
    ]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.5g}" if isinstance(value, float) else f"{value:,}"


def _edges(edges: list[float]) -> str:
    return ", ".join(f"{edge:.3g}" for edge in edges)
