"""One HTML page of an evaluation, with its figures inside."""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sepsis_cql.evaluation.estimators.table import list_captions
from sepsis_cql.evaluation.known_truth.record import measured_lines
from sepsis_cql.evaluation.record import Evaluation
from sepsis_cql.evaluation.report.results import find_bias, say_difference, say_estimate

TEMPLATES = Path(__file__).with_name("templates")


def render_page(evaluation: Evaluation, figures: list[Path]) -> str:
    """Render the page as HTML that needs no other file."""
    images = [
        (file.stem.replace("_", " ").capitalize(), base64.b64encode(file.read_bytes()).decode())
        for file in figures
    ]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    template = environment.get_template("report.html.j2")
    return template.render(
        found=evaluation,
        calibration=measured_lines() if evaluation.policies else [],
        figures=images,
        captions=list_captions(),
        show=_show,
        estimate=say_estimate,
        difference=say_difference,
        bias=find_bias,
    )


def _show(value: object) -> str:
    if value is None:
        return "undefined"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
