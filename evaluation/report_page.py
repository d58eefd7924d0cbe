"""One HTML page of an evaluation, with its figures inside."""

import base64
import math
from pathlib import Path

from jinja2 import Environment

from sepsis_cql.evaluation.record import Difference, Estimate, Evaluation

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Evaluation of {{ found.policy.name }}</title>
<style>body{font:15px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em}
table{border-collapse:collapse;font-size:85%}td,th{border:1px solid #ccc;padding:.2em .5em;text-align:left}
img{max-width:100%}.verdict{border-left:.4em solid #888;padding:.5em 1em;background:#f4f4f4}</style></head><body>
<h1>Evaluation of {{ found.policy.name }}</h1>
<p>Research artefact on retrospective data. Not a medical device; never use it for patient care.</p>
<div class="verdict"><strong>Verdict: {{ found.verdict.label }}</strong>
<ul>{% for reason in found.verdict.reasons %}<li>{{ reason }}</li>{% endfor %}</ul></div>
<p>{{ found.replay.source.name }} {{ found.replay.source.version or "" }}, {{ found.split }} split:
{{ found.n_episodes }} episodes, {{ found.n_transitions }} transitions.
{% if found.test_split_uses %}Policies scored on this test split so far: {{ found.test_split_uses }}.{% endif %}</p>
{% if found.published %}<h2>Published protocol</h2>
<p>As the published card defines them, not because they are sound: "FQE" is the mean of max Q of the policy's own
network; the behaviour probability ignores the state.</p>
<table>{% for name, value in found.published.items() %}<tr><td>{{ name }}</td><td>{{ show(value) }}</td></tr>
{% endfor %}</table>{% endif %}
{% if found.policies %}<h2>Sound protocol</h2>
<table><tr><th>policy</th><th>role</th>{% for name in names %}<th>{{ name }}</th>{% endfor %}<th>ESS</th>
<th>ESS/n</th><th>mean weight</th><th>largest share</th><th>zero share</th><th>difference to clinicians</th>
<th>true value</th><th>verdict</th></tr>
{% for policy in found.policies %}<tr><td>{{ policy.name }}</td><td>{{ policy.role }}</td>
{% for name in names %}<td>{{ cell(policy.estimates.get(name), found.bound) }}</td>{% endfor %}
{% set w = policy.weights %}<td>{{ show(w.ess) }}</td><td>{{ show(w.ess_share) }}</td>
<td>{{ show(w.mean_weight) }}</td><td>{{ show(w.largest_weight_share) }}</td><td>{{ show(w.zero_weight_share) }}</td>
<td>{{ cell(policy.difference_to_clinicians) }}</td>
<td>{{ show(policy.true_value.value) if policy.true_value else "" }}</td>
<td>{{ policy.verdict.label if policy.verdict else "" }}</td></tr>{% endfor %}</table>
<h2>Gates of the policy as it acts</h2>
<table>{% for gate in found.policies[0].gates %}<tr><td>{{ gate.name }}</td><td>{{ show(gate.value) }}</td>
<td>{{ gate.threshold }}</td><td>{{ "holds" if gate.passed else "fails" }}</td></tr>{% endfor %}</table>
<h2>Behaviour policy: {{ found.behavior.chosen }}</h2>
<table><tr><th>model</th><th>log-likelihood</th><th>calibration error</th></tr>
{% for one in found.behavior.candidates %}<tr><td>{{ one.name }}</td><td>{{ show(one.log_likelihood) }}</td>
<td>{{ show(one.calibration_error) }}</td></tr>{% endfor %}</table>{% endif %}
{% if found.calibration %}<h2>How far to trust the recommended estimate</h2>
<p>The same estimator and the same gates where the truth is known, with data collected anew in every repetition.</p>
<table><tr><th>case</th><th>episodes fitted / scored</th><th>behaviour</th><th>policy</th><th>true value</th>
<th>clinicians</th><th>bias</th><th>coverage of the 95% interval</th><th>where gates hold</th><th>gates hold</th>
<th>called better</th><th>wrongly</th></tr>
{% for line in found.calibration %}<tr><td>{{ line.case }}</td><td>{{ line.training }} / {{ line.scored }}</td>
<td>{{ line.behavior }}</td><td>{{ line.policy }}</td><td>{{ show(line.true_value) }}</td>
<td>{{ show(line.clinicians_value) }}</td><td>{{ show(line.bias) }}</td><td>{{ show(line.coverage) }}</td>
<td>{{ "never" if line.coverage_where_gates_hold is none else show(line.coverage_where_gates_hold) }}</td>
<td>{{ show(line.passes_gates) }}</td><td>{{ show(line.endorsed) }}</td>
<td>{{ show(line.wrongly_endorsed) }}</td></tr>{% endfor %}</table>{% endif %}
{% for title, data in figures %}<h2>{{ title }}</h2><img alt="{{ title }}" src="data:image/png;base64,{{ data }}">
{% endfor %}</body></html>
"""
NAMES = (
    "observed",
    "fqe_cross_fitted",
    "fqe",
    "wis",
    "wis_truncated",
    "pdwis",
    "dr",
    "wdr",
    "wdr_truncated",
    "fqe_cross_fitted_bounded",
    "fqe_bounded",
)


def render_page(evaluation: Evaluation, figures: list[Path]) -> str:
    """The page as HTML that needs no other file."""
    images = [
        (file.stem.replace("_", " ").capitalize(), base64.b64encode(file.read_bytes()).decode())
        for file in figures
    ]
    template = Environment(autoescape=True).from_string(PAGE)
    return template.render(found=evaluation, figures=images, names=NAMES, show=_show, cell=_cell)


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
