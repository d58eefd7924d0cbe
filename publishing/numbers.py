"""The numbers of the card: formats, its first table, and the results in its metadata."""

from typing import Any

from huggingface_hub import EvalResult

from sepsis_cql.common.privacy import SMALLEST_CELL
from sepsis_cql.evaluation.estimators.table import ESTIMATORS
from sepsis_cql.evaluation.record import Evaluation, PolicyRecord, TrueValue, find_judged
from sepsis_cql.evaluation.report.results import (
    FAILED,
    NOT_SHOWN,
    Result,
    find_published,
    find_result,
    say_difference,
    say_estimate,
    say_published,
)
from sepsis_cql.training.records import Score

Row = tuple[str, str, str, str]


def metric_rows(evaluation: Evaluation) -> list[Row]:
    """Return the rows of the first table: metric, by the published definition, sound, and the truth."""
    old, bound = evaluation.published, evaluation.bound
    policies = {policy.role: policy for policy in reversed(evaluation.policies)}
    learned, clinicians = policies.get("learned"), policies.get("clinicians")
    true = learned.true_value if learned else None
    rows: list[Row] = []
    for name, sound in (("fqe", _recommended(learned)), ("wis", "wis")):
        claim = getattr(old, f"{name}_mean", None)
        ends = [getattr(old, f"{name}_{part}", None) for part in ("lower", "upper")]
        found = find_result(learned, sound, bound) if learned else None
        estimate = learned.estimates.get(sound) if learned else None
        missing = FAILED if estimate is not None and estimate.value is not None else NOT_SHOWN
        value = missing if found is None else f"{found.value:.2f}"
        rows.append((f"{name.upper()} mean", say_published(claim, bound), value, say_truth(true)))
        rows.append((f"{name.upper()} 95% CI", _ends(*ends), _ends(*_limits(found)), ""))
    judged = find_judged(evaluation.policies, evaluation.frozen)
    sizes = (say_size(old.ess if old else None), say_size(learned.weights.ess if learned else None))
    of_version: list[Row] = []
    if judged is not None and judged != learned:
        words = say_estimate(judged, _recommended(judged), bound)
        of_version = [
            ("FQE, version of the verdict", "", words, say_truth(judged.true_value)),
            ("ESS, version of the verdict", "", say_size(judged.weights.ess), ""),
            _difference_row("Difference, version of the verdict", judged, clinicians, bound),
        ]
    return [
        *rows,
        ("ESS", *sizes, ""),
        _difference_row("Difference to clinicians", learned, clinicians, bound),
        *of_version,
        ("Episodes", say_number(old.n_episodes if old else None), say_number(evaluation.n_episodes), ""),
        ("Bootstrap resamples", say_number(old.bootstrap_resamples if old else None), "", ""),
    ]


def _difference_row(
    name: str, policy: PolicyRecord | None, clinicians: PolicyRecord | None, bound: float
) -> Row:
    true, base = (one.true_value if one else None for one in (policy, clinicians))
    gain = f"{true.value - base.value:+.2f}" if true and base else ""
    return name, "", say_difference(policy, bound) if policy else "", gain


def eval_results(label: str, evaluation: Evaluation) -> list[EvalResult]:
    """Return what is a result of the learned policy: recommended estimate, truth, WIS, ESS, published definitions."""
    dataset = f"{label}, {evaluation.split} split"
    learned = next((policy for policy in evaluation.policies if policy.role == "learned"), None)
    results, sizes = [], {}
    if learned is not None:
        for metric in (_recommended(learned), "wis"):
            if found := find_result(learned, metric, evaluation.bound):
                arguments = _arguments(found) | {"method": learned.estimates[metric].method}
                results.append(_result(dataset, metric, ESTIMATORS[metric].caption, found.value, arguments))
        if true := learned.true_value:
            error = {"standard_error": true.standard_error, "method": "the policy played in the simulator"}
            results.insert(1, _result(dataset, "true_value", "true value", true.value, error))
        sizes["ess", "effective sample size"] = learned.weights.ess
    if published := evaluation.published:
        for metric in ("fqe", "wis"):
            name = f"{metric.upper()} mean, published definition"
            if found := find_published(published, metric, evaluation.bound):
                results.append(_result(dataset, f"{metric}_published", name, found.value, _arguments(found)))
        sizes["ess_published", "ESS, published definition"] = published.ess
    return results + [
        _result(dataset, *names, size, {}) for names, size in sizes.items() if size >= SMALLEST_CELL
    ]


def say_number(value: float | int | str | None, digits: int = 2) -> str:
    """Return a number as the card shows it."""
    if value is None:
        return NOT_SHOWN
    return (
        f"{value:,.{digits}f}"
        if isinstance(value, float)
        else (f"{value:,}" if isinstance(value, int) else value)
    )


def say_truth(true: TrueValue | None) -> str:
    """Return a true value with its standard error."""
    return "" if true is None else f"{true.value:.2f} ± {true.standard_error:.2f}"


def say_score(score: Score) -> str:
    """Return the sound estimate of a run of the study."""
    return NOT_SHOWN if score.fqe is None else f"{score.fqe:.2f} {_ends(score.fqe_lower, score.fqe_upper)}"


def say_size(size: float | None) -> str:
    """Return an effective sample size."""
    return NOT_SHOWN if size is None else "<10" if size < SMALLEST_CELL else f"{size:,.0f}"


def _recommended(policy: PolicyRecord | None) -> str:
    difference = policy.difference_to_clinicians if policy else None
    return difference.estimator if difference else "fqe_cross_fitted"


def _limits(found: Result | None) -> tuple[float | None, float | None]:
    return (None, None) if found is None else (found.lower, found.upper)


def _ends(lower: float | None, upper: float | None) -> str:
    return "" if lower is None or upper is None else f"[{lower:.2f}, {upper:.2f}]"


def _arguments(found: Result) -> dict[str, Any]:
    return {"lower": found.lower, "upper": found.upper}


def _result(dataset: str, kind: str, name: str, value: float, arguments: dict[str, Any]) -> EvalResult:
    return EvalResult(
        task_type="reinforcement-learning",
        task_name="offline reinforcement learning",
        dataset_type="sepsis-replay",
        dataset_name=dataset,
        metric_type=kind,
        metric_name=name,
        metric_value=round(float(value), 6),
        metric_args={k: round(v, 6) if isinstance(v, float) else v for k, v in arguments.items()} or None,
    )
