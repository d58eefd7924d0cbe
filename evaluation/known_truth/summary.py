"""What many repetitions with known truth say: bias, coverage, ranking, and how often the verdict was wrong."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, spearmanr

from sepsis_cql.evaluation.known_truth import record

Numbers = tuple[float, float, float]


@dataclass(frozen=True)
class Outcome:
    """One policy in one repetition.

    Attributes:
        name: of the policy.
        true_value: of the policy.
        estimates: value, lower and upper end by estimator and interval; NaN where undefined.
        differences: the same of the difference to the clinicians, by the recommended and the independent estimator.
        ess: effective sample size.
        passes: every gate holds that any statement needs.
        endorsed: the verdict is "better than clinicians".
        gates: the number that each gate looks at, and whether it holds, by its name.
        praised: it would be endorsed if nothing hidden were asked about.
        stated_gamma: of every decision, that the advantage is sure to survive; infinite where nothing undoes it.
        yardstick: change of odds by leaving out the strongest measured covariate; None where none was.
    """

    name: str
    true_value: float
    estimates: dict[str, Numbers]
    differences: tuple[Numbers, Numbers]
    ess: float
    passes: bool
    endorsed: bool
    gates: dict[str, tuple[float | None, bool]]
    praised: bool
    stated_gamma: float
    yardstick: float | None


def summarize(
    found: tuple[Outcome, ...], clinicians: float, strength: float | None = None
) -> record.PolicyQuality:
    """Summarize bias, error and coverage of every estimator for one policy over all repetitions.

    Args:
        found: of the policy, in each repetition.
        clinicians: their true value.
        strength: true Gamma of the hidden confounding; None where there is none.
    """
    truth = np.array([one.true_value for one in found])
    passes = np.array([one.passes for one in found])
    endorsed = np.array([one.endorsed for one in found])
    differences = np.array([one.differences for one in found])  # (n, 2, 3)
    praised, stated = (
        np.array([getattr(one, name) for one in found]) for name in ("praised", "stated_gamma")
    )
    yardsticks = [one.yardstick for one in found if one.yardstick is not None]
    is_wrong = truth <= clinicians
    failures = {
        name: float(np.mean([not one.gates[name][1] for one in found if name in one.gates]))
        for name in dict.fromkeys(name for one in found for name in one.gates)
    }
    return record.PolicyQuality(
        name=found[0].name,
        true_value=float(truth.mean()),
        true_gain=float((truth - clinicians).mean()),
        ess=float(np.mean([one.ess for one in found])),
        passes_gates=float(passes.mean()),
        endorsed=count_share(endorsed),
        wrongly_endorsed=count_share(endorsed & is_wrong),
        hidden=record.HiddenQuality(
            praised=count_share(praised),
            wrongly_praised=count_share(praised & is_wrong),
            wrongly_beyond_truth=None
            if strength is None
            else count_share(praised & is_wrong & (stated > strength)),
            stated=_spread(stated[praised & np.isfinite(stated)]),
            yardstick=_spread(np.array(yardsticks)),
        ),
        refused={name: share for name, share in failures.items() if share > 0},
        estimators={
            name: _quality(np.array([one.estimates[name] for one in found]), truth, passes)
            for name in found[0].estimates
        },
        difference=_quality(differences[:, 0], truth - clinicians, passes),
        independent_difference=_quality(differences[:, 1], truth - clinicians, passes),
    )


def _spread(values: np.ndarray) -> record.Spread | None:
    if len(values) == 0:
        return None
    return record.Spread(
        least=float(values.min()), median=float(np.median(values)), largest=float(values.max())
    )


def count_share(happened: np.ndarray) -> record.Share:
    """Return the share of a (n,) bool array that is true, with its exact 95% interval."""
    interval = binomtest(int(happened.sum()), len(happened)).proportion_ci(0.95, method="exact")
    return record.Share(value=float(happened.mean()), lower=float(interval.low), upper=float(interval.high))


def _quality(numbers: np.ndarray, truth: np.ndarray, passes: np.ndarray) -> record.EstimatorQuality:
    """Errors of (n, 3) values with their intervals; an undefined one covers nothing."""
    value, lower, upper = numbers.T
    error = value - truth
    covered = (lower <= truth) & (truth <= upper)
    known = np.isfinite(error)
    if not known.any():
        return record.EstimatorQuality(undefined=1.0, coverage=0.0)
    return record.EstimatorQuality(
        undefined=float(1 - known.mean()),
        bias=float(error[known].mean()),
        standard_deviation=float(error[known].std()),
        rmse=float(np.sqrt((error[known] ** 2).mean())),
        mean_width=float((upper - lower)[known].mean()),
        coverage=float(covered.mean()),
        coverage_where_gates_hold=float(covered[passes].mean()) if passes.any() else None,
    )


def rank(repetitions: list[list[Outcome]]) -> dict[str, record.Ranking]:
    """Measure how well each estimator orders the policies of a repetition; nothing for a single policy."""
    rankings = {}
    for name in repetitions[0][0].estimates if len(repetitions[0]) > 1 else ():
        correlations, regrets = [], []
        for outcomes in repetitions:
            truth = np.array([one.true_value for one in outcomes])
            value = np.array([one.estimates[name][0] for one in outcomes])
            value = np.where(np.isfinite(value), value, -np.inf)
            varies = len(set(value)) > 1 and len(set(truth)) > 1
            correlations.append(spearmanr(value, truth).statistic if varies else 0.0)
            regrets.append(truth.max() - truth[value.argmax()])
        rankings[name] = record.Ranking(spearman=float(np.mean(correlations)), regret=float(np.mean(regrets)))
    return rankings
