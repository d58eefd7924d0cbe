"""A comparison as a figure, from its record alone."""

import re
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from sepsis_cql.evaluation.comparison.record import Comparison
from sepsis_cql.evaluation.comparison.show import list_numbers, say_findings
from sepsis_cql.evaluation.estimators.table import ESTIMATORS
from sepsis_cql.evaluation.report.results import UNATTAINABLE
from sepsis_cql.evaluation.report.style import CLINICIANS, POLICY, SECOND, STYLE, TRUTH, frame_source

ACRONYM = re.compile(r"\b(ai|bcq|cql|dqn|iql)\b")
COLORS = (POLICY, TRUTH, "#000000", SECOND, "#CC79A7")  # after Okabe and Ito, as the others


@rc_context(STYLE)  # type: ignore[arg-type]
def draw_comparison(found: Comparison, file: Path) -> None:
    """Draw the sound, the published and the true value of every learner as a PNG, a point for each seed."""
    numbers = list_numbers(found)
    caption = ESTIMATORS[found.recommended].caption
    shown = (  # row of a learner's own, marker, how it is filled, number, what it means
        (0, "o", "full", "identified", f"{caption}, chosen version"),
        (0, "o", "none", "unidentified", "the same, not identified"),
        (1, "|", "full", "truth", "true value, chosen version"),
        (2, "x", "full", "acts", "true value as it acts"),
        (3, "^", "full", "max Q", "published: largest Q"),
        (4, "v", "full", "enough WIS", "published: WIS"),
        (4, "v", "none", "few WIS", "published: WIS, few episodes"),
    )
    figure = Figure(figsize=(11, 2.2 + 0.4 * len(found.learners)), layout="constrained")
    axes = figure.add_subplot()
    for place, marker, fill, name, label in shown:
        points = [
            (value, row + 0.15 * (place - 2))
            for row, one in enumerate(found.learners)
            for value in map(numbers[name], one.seeds)
            if value is not None
        ]
        if points:
            axes.plot(
                *zip(*points, strict=True),
                marker,
                color=COLORS[place],
                fillstyle=fill,
                markersize=4,
                label=label,
            )
    if found.clinicians.value is not None:
        axes.axvline(found.clinicians.value, color=CLINICIANS, linestyle=":", label="clinicians, observed")
    for end, text in ((-1, None), (1, UNATTAINABLE)):
        axes.axvspan(end * found.bound, end * 2 * found.bound, color=CLINICIANS, alpha=0.15, label=text)
    axes.set_yticks(range(len(found.learners)), [_caption(one.name) for one in found.learners])
    axes.set(xlabel="expected return", xlim=(-1.2 * found.bound, 1.6 * found.bound))
    axes.set_ylim(len(found.learners) - 0.5, -0.5)
    figure.legend(loc="outside right upper")
    source = "synthetic" if found.clinicians_true_value is not None else found.replay.source.name
    facts = f"{found.split} split, {found.n_episodes} episodes"
    frame_source(figure, source, facts, say_findings(found)[-2 if found.clinicians_true_value else -1])
    figure.savefig(file, format="png", dpi=110, metadata={"Software": None})


def _caption(learner: str) -> str:
    """A learner's name in words."""
    return ACRONYM.sub(lambda found: found[0].upper(), learner.replace("_", " "))
