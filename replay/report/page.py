"""The build report as a page to read and a figure to look at."""

from pathlib import Path
from typing import Any

from sepsis_cql.common.storage import write_json
from sepsis_cql.replay.report.clinical import ClinicalTables, Missing, Quartiles
from sepsis_cql.replay.report.counts import ActionCounts, BuildReport
from sepsis_cql.replay.report.figures import draw_actions, draw_ages, draw_attrition, draw_missing
from sepsis_cql.replay.rows.actions import N_BINS
from sepsis_cql.replay.rows.splits import SPLITS

BUILD_REPORT = "build_report.json"
QUARTILES = ("age", "sofa_at_onset", "n_steps")


def write_report(directory: Path, report: BuildReport) -> None:
    """Write the build report as JSON and as a page with its figures."""
    write_json(directory / BUILD_REPORT, report.model_dump(mode="json"))
    (directory / "build_report.md").write_text(render_page(report), encoding="utf-8")
    draw_attrition(report.attrition, directory / "attrition.png")
    draw_ages(report.clinical, directory / "ages.png")
    draw_actions(report.clinical, directory / "actions.png")
    draw_missing(report.clinical, directory / "missing.png")


def render_page(report: BuildReport) -> str:
    """Render build_report.json as Markdown, beside which its figures lie."""
    source, cohort, periods = report.source, report.cohort, report.periods or {}
    attrition = [
        [row.criterion, row.description, row.stays_removed, row.stays_remaining, row.patients_remaining]
        for row in report.attrition
    ]
    splits = [
        [split, *report.splits[split].model_dump().values(), ", ".join(periods.get(split, []))]
        for split in SPLITS
    ]
    features = [
        [name, _share(row.unknown), _share(row.not_measured), *map(_number, (row.low, row.median, row.high))]
        for name, row in report.features.items()
    ]
    tables = [[name, rows.rows, _number(rows.published)] for name, rows in report.tables.items()]
    return f"""\
# Build report

Tables: {source.name} {source.version}. State and action: {report.alignment}. \
Replay fingerprint: `{report.fingerprint}`.

{cohort.stays:,} ICU stays, {cohort.septic_stays:,} septic; {cohort.episodes:,} episodes \
with {cohort.transitions:,} transitions; {cohort.deaths:,} deaths ({cohort.mortality:.1%}).

## Warnings

{chr(10).join(f"- {warning}" for warning in report.warnings) or "None."}

## Cohort

![Stays left after each criterion](attrition.png)

{_table(["criterion", "meaning", "stays removed", "stays left", "patients left"], attrition)}
{_table(["split", "patients", "episodes", "transitions", "deaths", "years, of ten or more patients"], splits)}
{_render_actions(report.action_grid)}
{_render_patients(report.clinical)}
## Features

Share of steps with no value known yet, share without a measurement in the window before, and the \
5 %, 50 % and 95 % quantiles of what is known.

{_table(["feature", "unknown", "not measured", "5 %", "median", "95 %"], features)}
## Tables

{_table(["table", "rows", "published"], tables)}"""


def _render_actions(grid: ActionCounts) -> str:
    fluids = [f"fluid {number}" for number in range(N_BINS)]
    counts = (
        _table(
            [f"{split} steps", *fluids],
            [[f"vasopressor {number}", *row] for number, row in enumerate(grid.counts[split])],
        )
        for split in SPLITS
    )
    return f"""\
## Actions

Bin 0 is no dose; edges of bins 1-4: vasopressor {_edges(grid.vasopressor_edges)} \
{grid.vasopressor_unit}, fluid {_edges(grid.fluid_edges)} {grid.fluid_unit}.

{chr(10).join(counts)}"""


def _render_patients(tables: ClinicalTables) -> str:
    groups, everyone = list(tables.patients.values()), tables.patients["all"]
    shares = ("died", "female", "in_septic_shock", "ventilated", "vasopressor", "limited", "comfort")
    rows: list[list[Any]] = [
        ["episodes", *(group.episodes for group in groups)],
        *([name, *(_share(getattr(group, name)) for group in groups)] for name in shares),
        *([name, *(_middle(getattr(group, name)) for group in groups)] for name in QUARTILES),
        *([f"ends: {name}", *(_share(group.endings[name]) for group in groups)] for name in everyone.endings),
        *([name, *(_middle(group.scores[name]) for group in groups)] for name in everyone.scores),
        *(
            [f"kidney injury: stage {stage}", *(_share(group.kidney_injury[stage]) for group in groups)]
            for stage in everyone.kidney_injury
        ),
    ]
    ages = [[name, age.median, age.high, _share(age.carried)] for name, age in tables.value_ages.items()]
    missing = [
        [name, *(_missing(features[name]) for features in tables.missing.values())]
        for name in next(iter(tables.missing.values()), {})
    ]
    return f"""\
![Steps by dose, by SOFA and era](actions.png)

## Patients

Shares are in steps of ten episodes; nothing is shown of fewer than ten. Limited care and comfort measures \
are counted whenever they were charted.

{_table(["", *tables.patients], rows)}
## Age of the values

The window before the state lies partly before the ICU in {tables.partial_windows:.1%} of the steps; intake \
in operating or recovery rooms was charted during {tables.intake_elsewhere:.1%}.

![Age of what the policy sees](ages.png)

{_table(["feature", "median age, h", "95 %, h", "carried forward"], ages)}
## Missing values by outcome and era

Share of steps with no value known yet / without a measurement in the window before, in steps of ten \
episodes.

![Unknown values by outcome and era](missing.png)

{_table(["feature", *tables.missing], missing)}"""


def _middle(found: Quartiles | None) -> str:
    return "" if found is None else f"{found[1]:g} [{found[0]:g}, {found[2]:g}]"


def _missing(found: Missing) -> str:
    shares = [found.unknown] + ([] if found.not_measured is None else [found.not_measured])
    return " / ".join(_share(share) for share in shares)


def _table(header: list[str], rows: list[list[Any]]) -> str:
    lines = (
        " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row)
        for row in (header, ["---"] * len(header), *rows)
    )
    return "".join(f"| {line} |\n" for line in lines)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.5g}" if isinstance(value, float) else f"{value:,}"


def _edges(edges: list[float]) -> str:
    return ", ".join(f"{edge:.3g}" for edge in edges)
