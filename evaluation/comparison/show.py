"""A comparison as a table and as sentences, from its record alone."""

import statistics
from collections import Counter
from collections.abc import Callable, Sequence

from sepsis_cql.evaluation.comparison.record import Comparison, LearnerResult, SeedResult
from sepsis_cql.evaluation.estimators.table import ESTIMATORS
from sepsis_cql.evaluation.report.results import FAILED, UNATTAINABLE, make_result, say_published
from sepsis_cql.evaluation.verdict import BETTER, UNIDENTIFIED

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
    "its ESS",
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
    numbers = list_numbers(found)
    cells = {name: _spread(one, number) for name, number in numbers.items()}
    for name in ("value", "difference", "WIS"):
        cells[name] = _count_failed(one, numbers[name]) or cells[name]
    if (mean := _mean(one, numbers["max Q"])) is not None and abs(mean) > found.bound:
        cells["max Q"] += f" ({UNATTAINABLE})"  # a definition that gives values beyond any return
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
        "its ESS": cells["WIS ESS"],
    }


def say_findings(found: Comparison) -> list[str]:
    """Return what the comparison shows, in sentences: who leads by what, and who is better than the clinicians."""
    numbers, sentences = list_numbers(found), []
    leads = {
        "value": "By the sound estimate of the version that validation chose",
        "identified": "Of those that can be identified with every seed, by the same",
        "truth": "By the true value of that version",
        "acts": "By the true value of the policy as it acts",
        "max Q": "By what the published protocol calls FQE, the largest value a network claims",
        "enough WIS": "By the published WIS",
    }
    for name, text in leads.items():
        means = {one.name: mean for one in found.learners if (mean := _mean(one, numbers[name])) is not None}
        least = 1 if name == "identified" else 2  # to lead takes another, to be identified does not
        if len(set(means.values())) >= least:
            best = max(means.values())
            first = [one for one in found.learners if means.get(one.name) == best]
            leads_by = "leads" if len(first) == 1 else "are equal and lead"
            error = _mean(first[0], numbers[f"{name} error"]) if f"{name} error" in numbers else None
            unknown = name == "value" and _count_failed(first[0], numbers["identified"]) == FAILED
            sentences.append(
                f"{text} {'; '.join(one.name for one in first)} {leads_by}: {say_published(best, found.bound)}"
                f"{_say_error(error)}{', which cannot be identified' if unknown else ''}."
            )
    sentences += _say_too_few(found)
    endorsed = [one.name for one in found.learners if any(r.verdict.label == BETTER for r in one.seeds)]
    sentences.append(
        f"By the rules of the verdict these are better than the clinicians with at least one seed: "
        f"{'; '.join(endorsed)}."
        if endorsed
        else "By the rules of the verdict none is better than the clinicians."
    )
    if (truth := found.clinicians_true_value) is not None:
        worse = [
            one.name
            for one in found.learners
            if (mean := _mean(one, numbers["acts"])) is not None and mean < truth.value
        ]
        sentences.append(
            f"The clinicians are truly worth {truth.value:.2f}{_say_error(truth.standard_error)}; as they act, "
            f"{f'{len(worse)} of {len(found.learners)} policies are worth less' if worse else 'all are worth more'}"
            f"{': ' + '; '.join(worse) if worse else ''}."
        )
    return sentences


def _say_error(standard_error: float | None) -> str:
    """Say the error of a value by rollouts; nothing of an exact one."""
    return f" (standard error {standard_error:.2f})" if standard_error else ""


def _say_too_few(found: Comparison) -> list[str]:
    """Say of how many policies the published WIS rests on too few episodes to lead, or to be a result."""
    numbers = list_numbers(found)
    few, none = (
        sum(_mean(one, numbers[name]) is None for one in found.learners) for name in ("enough WIS", "WIS")
    )
    if not few:
        return []
    return [
        f"The published WIS of {few} of {len(found.learners)} policies leads nowhere: it rests, with a seed at least, "
        f"on fewer than the {found.minimum_ess:g} effective episodes that the verdict asks for"
        f"{f'; of {none} on fewer than two, which is no result' if none else ''}."
    ]


def list_numbers(found: Comparison) -> dict[str, Number]:
    """Return by name what is shown of a seed; each is None where there is none, or where it is no result."""
    estimator = ESTIMATORS[found.recommended]

    def sound(result: SeedResult) -> float | None:
        ess = result.ess if estimator.rests_on_weights else None
        return _result(result.estimates[found.recommended].value, ess, found)

    def wis(result: SeedResult) -> float | None:
        return _result(result.published_wis, result.published_ess, found)

    def is_few(result: SeedResult) -> bool:
        return result.published_ess < found.minimum_ess

    return {
        "value": sound,
        "identified": lambda result: None if result.verdict.label == UNIDENTIFIED else sound(result),
        "unidentified": lambda result: sound(result) if result.verdict.label == UNIDENTIFIED else None,
        "difference": lambda result: None if sound(result) is None else result.difference,
        "ess": lambda result: result.ess,
        "truth": lambda result: result.true_value and result.true_value.value,
        "truth error": lambda result: result.true_value and result.true_value.standard_error,
        "acts": lambda result: result.true_value_as_it_acts and result.true_value_as_it_acts.value,
        "acts error": lambda result: (
            result.true_value_as_it_acts and result.true_value_as_it_acts.standard_error
        ),
        "max Q": lambda result: result.published_fqe,
        "WIS": wis,
        "enough WIS": lambda result: None if is_few(result) else wis(result),
        "few WIS": lambda result: wis(result) if is_few(result) else None,
        "WIS ESS": lambda result: result.published_ess,
    }


def _result(value: float | None, ess: float | None, found: Comparison) -> float | None:
    result = make_result(value, None, None, found.bound, ess=ess)
    return None if result is None else result.value


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


def _count_failed(one: LearnerResult, number: Number) -> str:
    """Return that all seeds or so many of them have no result; empty where all have one."""
    n = sum(number(result) is None for result in one.seeds)
    return "" if not n else FAILED if n == len(one.seeds) else f"{FAILED} ({n} of {len(one.seeds)} seeds)"


def _counted(counts: Counter[str]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{text} ({count})" for text, count in counts.most_common())


def _setting(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "-".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
