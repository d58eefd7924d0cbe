"""One HTML page of an evaluation, with its figures inside."""

import base64
import math
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sepsis_cql.evaluation.estimators.table import list_captions
from sepsis_cql.evaluation.record import Difference, Estimate, Evaluation

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
    return template.render(found=evaluation, figures=images, captions=list_captions(), show=_show, cell=_cell)


def _show(value: object) -> str:
    if value is None:
        return "undefined"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _cell(estimate: Estimate | Difference | None, bound: float = math.inf) -> str:
    if estimate is None:
        return ""
    if estimate.value is not None and abs(estimate.value) > bound:
        return "failed (outside the attainable range)"
    if estimate.value is None or estimate.lower is None or estimate.upper is None:
        return _show(estimate.value)
    return f"{estimate.value:.2f} [{estimate.lower:.2f}, {estimate.upper:.2f}]"
