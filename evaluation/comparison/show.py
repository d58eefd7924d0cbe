"""A comparison as a table, as sentences and as a figure, from its record alone."""

import re
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from sepsis_cql.evaluation.comparison.record import Comparison, LearnerResult, SeedResult
from sepsis_cql.evaluation.estimators.table import ESTIMATORS
from sepsis_cql.evaluation.report.results import UNATTAINABLE, say_published
from sepsis_cql.evaluation.report.style import CLINICIANS, POLICY, SECOND, STYLE, TRUTH, frame_source
from sepsis_cql.evaluation.verdict import BETTER

ACRONYM = re.compile(r"\b(ai|bcq|cql|dqn|iql)\b")
COLORS = (POLICY, TRUTH, "#000000", SECOND, "#CC79A7")  # after Okabe and Ito, as the others
Number = Callable[[SeedResult], float | None]
COLUMNS = (
    "learner",
    "configuration",
    "judged as",
    "sound value",
    "difference",
    "ESS",
    "verdicts",
    "truth",
    "truth as it acts",
    "max Q",
    "published WIS",
)


def render_table(found: Comparison) -> str:
    """Return a Markdown table with a line for each learner: mean and standard deviation over seeds."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(row)} |" for row in list_rows(found)]
    return "\n".join(lines) + "\n"


def list_rows(found: Comparison, columns: Sequence[str] = COLUMNS) -> list[list[str]]:
    """List the cells of the learners and of the clinicians in some of the `COLUMNS`."""
    rows = [_cells(found, one) for one in found.learners]
    observed, truth = found.clinicians.value, found.clinicians_true_value
    clinicians = {
        "learner": "clinicians",
        "sound value": "" if observed is None else f"{observed:.2f}",
        "truth": "" if truth is None else f"{truth.value:.2f}",
    }
    return [[row.get(column, "") for column in columns] for row in [*rows, clinicians]]


def _cells(found: Comparison, one: LearnerResult) -> dict[str, str]:
    numbers = _numbers(found)
    cells = {name: _spread(one, number) for name, number in numbers.items()}
    for name in ("max Q", "WIS"):  # definitions that give values beyond any return
        mean = _mean(one, numbers[name])
        cells[name] += f" ({UNATTAINABLE})" if mean is not None and abs(mean) > found.bound else ""
    return {
        "learner": one.name,
        "configuration": ", ".join(f"{name} {_setting(value)}" for name, value in one.configuration.items()),
        "judged as": _counted(Counter(result.softening for result in one.seeds)),
        "sound value": cells["value"],
        "difference": cells["difference"],
        "ESS": cells["ess"],
        "verdicts": _counted(Counter[str](result.verdict.label for result in one.seeds)),
        "truth": cells["truth"],
        "truth as it acts": cells["acts"],
        "max Q": cells["max Q"],
        "published WIS": cells["WIS"],
    }


def say_findings(found: Comparison) -> list[str]:
    """Return what the comparison shows, in sentences: who leads by what, and who is better than the clinicians."""
    numbers, sentences = _numbers(found), []
    leads = {
        "value": "by the sound estimate of the version that validation chose",
        "truth": "by the true value of that version",
        "acts": "by the true value of the policy as it acts",
        "max Q": 'by what the published protocol calls FQE, the largest value a network claims',
        "WIS": "by the published WIS",
    }  # fmt: skip
    for name, text in leads.items():
        means = {one.name: mean for one in found.learners if (mean := _mean(one, numbers[name])) is not None}
        if len(set(means.values())) > 1:
            best = max(means.values())
            first = [name for name, mean in means.items() if mean == best]
            leads_by = "leads" if len(first) == 1 else "are equal and lead"
            sentences.append(
                f"{text[0].upper()}{text[1:]} {'; '.join(first)} {leads_by}: {say_published(best, found.bound)}."
            )
    endorsed = [one.name for one in found.learners if any(r.verdict.label == BETTER for r in one.seeds)]
    sentences.append(
        f"By the rules of the verdict these are better than the clinicians with at least one seed: "
        f"{', '.join(endorsed)}."
        if endorsed
        else "By the rules of the verdict none is better than the clinicians."
    )
    if (truth := found.clinicians_true_value) is not None:
        worse = [
            one.name
            for one in found.learners
            if (mean := _mean(one, numbers["acts"])) is not None and mean < truth.value
        ]
        error = f" (standard error {truth.standard_error:.2f})" if truth.standard_error else ""
        sentences.append(
            f"The clinicians are truly worth {truth.value:.2f}{error}; as they act, "
            f"{f'{len(worse)} of {len(found.learners)} policies are worth less' if worse else 'all are worth more'}"
            f"{': ' + ', '.join(worse) if worse else ''}."
        )
    return sentences


@rc_context(STYLE)  # type: ignore[arg-type]
def draw_comparison(found: Comparison, file: Path) -> None:
    """Draw the sound, the published and the true value of every learner as a PNG, a point for each seed."""
    numbers = _numbers(found)
    shown = {
        f"{ESTIMATORS[found.recommended].caption} of the chosen version": ("value", "o"),
        "true value of the chosen version": ("truth", "|"),
        "true value as it acts": ("acts", "x"),
        "published: largest Q": ("max Q", "^"),
        "published: WIS, 0 where no weight is left": ("WIS", "v"),
    }
    figure = Figure(figsize=(11, 2.2 + 0.42 * len(found.learners)), layout="constrained")
    axes = figure.add_subplot()
    for offset, (label, (name, marker)) in enumerate(shown.items()):
        points = [
            (value, row + 0.6 * (offset / (len(shown) - 1) - 0.5))
            for row, one in enumerate(found.learners)
            for value in map(numbers[name], one.seeds)
            if value is not None
        ]
        if points:
            axes.plot(*zip(*points, strict=True), marker, color=COLORS[offset], markersize=4, label=label)
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


def _numbers(found: Comparison) -> dict[str, Number]:
    return {
        "value": lambda result: result.estimates[found.recommended].value,
        "difference": lambda result: result.difference,
        "ess": lambda result: result.ess,
        "truth": lambda result: None if result.true_value is None else result.true_value.value,
        "acts": lambda result: (
            None if result.true_value_as_it_acts is None else result.true_value_as_it_acts.value
        ),
        "max Q": lambda result: result.published_fqe,
        "WIS": lambda result: result.published_wis,
    }


def _mean(one: LearnerResult, number: Number) -> float | None:
    values = [value for value in map(number, one.seeds) if value is not None]
    return statistics.fmean(values) if len(values) == len(one.seeds) else None


def _spread(one: LearnerResult, number: Number) -> str:
    """Mean of the seeds with their standard deviation; empty where one has no value."""
    if (mean := _mean(one, number)) is None:
        return ""
    if len(one.seeds) < 2:
        return f"{mean:.2f}"
    return f"{mean:.2f} ± {statistics.stdev(float(number(result) or 0.0) for result in one.seeds):.2f}"


def _counted(counts: Counter[str]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{text} ({count})" for text, count in counts.most_common())


def _setting(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "-".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
