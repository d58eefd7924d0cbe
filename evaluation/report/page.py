"""One HTML page of an evaluation, with its figures inside: verdict first, light and dark, no other file needed."""

import base64
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sepsis_cql.evaluation.estimators.table import ESTIMATORS, list_captions
from sepsis_cql.evaluation.known_truth.record import measured_lines
from sepsis_cql.evaluation.record import Difference, Evaluation, Tail, find_judged
from sepsis_cql.evaluation.report.record import Interval
from sepsis_cql.evaluation.report.results import (
    WHY_FAILED,
    find_bias,
    name_policy,
    say_difference,
    say_estimate,
)
from sepsis_cql.evaluation.verdict import SIZE

TEMPLATES = Path(__file__).with_name("templates")
HELP = {
    "ess": "Effective sample size: how many episodes the importance weights are worth. Verdicts need {}.",
    "truth": "By playing the policy in the simulator that the episodes come from.",
    "mean_weight": "1 in expectation; far from it, some episodes speak for many or none do.",
}


def render_page(evaluation: Evaluation, figures: Mapping[Path, str], explorer: str | None = None) -> str:
    """Render the page as HTML that needs no other file.

    Args:
        evaluation: the record.
        figures: what each picture lets conclude, by its file.
        explorer: name of a page beside it that runs the network.
    """
    images = [
        (file.stem, caption, base64.b64encode(file.read_bytes()).decode())
        for file, caption in figures.items()
    ]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    gates = (gate for policy in evaluation.policies for gate in policy.gates if gate.name == SIZE)
    needed = next((gate.threshold for gate in gates), "enough of them")
    shown = {name: row for name, row in ESTIMATORS.items() if not row.is_of_clinicians}
    return environment.get_template("report.html.j2").render(
        found=evaluation,
        judged=find_judged(evaluation.policies, evaluation.frozen),
        calibration=measured_lines() if evaluation.policies else [],
        figures=images,
        explorer=explorer,
        captions=list_captions(),
        groups=[{"name": name, "caption": row.caption, "help": row.method} for name, row in shown.items()],
        has_truth=any(policy.true_value for policy in evaluation.policies),
        why_failed=WHY_FAILED.format(evaluation.bound),
        help=HELP | {"ess": HELP["ess"].format(needed)},
        name=name_policy,
        show=_show,
        estimate=say_estimate,
        difference=say_difference,
        bias=find_bias,
        differences=evaluation.diagnostics and evaluation.diagnostics.differences,
        by_sofa=evaluation.diagnostics.behavior_by_sofa if evaluation.diagnostics else [],
        interval=_say_interval,
        shares=[tail.share for tail in evaluation.policies[0].tails] if evaluation.policies else [],
    )


def _say_interval(found: Interval | Tail | Difference) -> str:
    if found.value is None:
        return "-"
    ends = "" if found.lower is None or found.upper is None else f" [{found.lower:+.2f}, {found.upper:+.2f}]"
    return f"{found.value:+.2f}{ends}"


def _show(value: object) -> str:
    if value is None:
        return "undefined"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
