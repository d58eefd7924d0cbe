"""The sound evaluation of one policy: estimates of several families, weights, and the difference to clinicians."""

from dataclasses import dataclass

import numpy as np

from sepsis_cql.evaluation import importance
from sepsis_cql.evaluation.episodes import Episodes, select_rows
from sepsis_cql.evaluation.fqe import FqeResult, cross_fit, fit_on_training, normal_interval
from sepsis_cql.evaluation.fqe_features import Decisions
from sepsis_cql.evaluation.importance import SumEstimator
from sepsis_cql.evaluation.intervals import difference_interval, interval
from sepsis_cql.evaluation.policies import Policy, checked_probabilities
from sepsis_cql.evaluation.record import Difference, Estimate
from sepsis_cql.evaluation.scene import Scene
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.variants import Variant
from sepsis_cql.evaluation.weights import WeightSummary, summarise_weights

FQE_METHODS = {
    "fqe": "fitted on training transitions; normal interval from refits on bootstrapped episodes",
    "fqe_cross_fitted": "fitted on other folds of the scored episodes; normal interval from refits on "
    "bootstrapped episodes",
}


@dataclass(frozen=True)
class Audit:
    """What was found about one variant of a policy.

    Attributes:
        variant: which policy, with its softening.
        probabilities: (n, 25) of the policy at the scored states.
        weights: (n_episodes,) untruncated episode weights.
        estimates: by name of the estimator.
        estimators: those made of episode weights, as statistics that can be resampled.
        difference: to the clinicians, by the recommended estimator.
        fqe: the cross-fitted evaluator; None for the clinicians themselves.
    """

    variant: Variant
    probabilities: np.ndarray
    weights: np.ndarray
    estimates: dict[str, Estimate]
    estimators: dict[str, SumEstimator]
    difference: Difference | None
    fqe: FqeResult | None

    @property
    def summary(self) -> WeightSummary:
        """Diagnostics of the weights."""
        return summarise_weights(self.weights)


def audit_policy(variant: Variant, scene: Scene, settings: EvaluationSettings, n_resamples: int) -> Audit:
    """Evaluate one variant of a policy on the scored episodes of a scene.

    Args:
        variant: the policy.
        scene: the data.
        settings: of the estimators.
        n_resamples: bootstrap resamples.
    """
    probabilities, rho = weigh_policy(variant.policy, scene)
    counts = scene.counts(n_resamples, settings.seed)
    fits = fit_evaluators(variant, scene, probabilities, settings)
    fqe = fits["fqe_cross_fitted"]
    estimators = _estimators(scene, rho, probabilities, fqe, settings)
    estimates = {
        name: _estimate(estimator, counts, settings, cap) for name, (estimator, cap) in estimators.items()
    }
    for name, fit in fits.items():
        lower, upper = fit.interval()
        estimates[name] = Estimate(value=fit.value, lower=lower, upper=upper, method=FQE_METHODS[name])
    for name, fit in fits.items():
        estimates[f"{name}_bounded"] = Estimate(
            value=fit.bounded_value,
            lower=None,
            upper=None,
            method=f"{name} with targets bounded to the attainable range",
        )
    recommended = settings.gates.recommended
    if recommended in fits:
        difference = _fqe_difference(recommended, fits[recommended], scene)
    else:
        clinicians = importance.mean_estimator(scene.episodes.returns)
        difference = _difference(recommended, estimators[recommended][0], clinicians, counts, settings)
    statistics = {name: estimator for name, (estimator, _) in estimators.items()}
    return Audit(variant, probabilities, rho[:, -1], estimates, statistics, difference, fqe)


def weigh_policy(policy: Policy, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """(n, 25) probabilities at the scored states, and (n_episodes, horizon) products of ratios to the clinicians."""
    probabilities = checked_probabilities(policy, scene.scored.states)
    taken = select_rows(probabilities, scene.scored.actions)
    ratios = scene.episodes.pad(taken / select_rows(scene.behavior, scene.scored.actions), fill=1.0)
    return probabilities, importance.cumulative_ratios(ratios)


def audit_clinicians(variant: Variant, scene: Scene, settings: EvaluationSettings, n_resamples: int) -> Audit:
    """What clinicians were observed to achieve on the same episodes: every weight is 1."""
    counts = scene.counts(n_resamples, settings.seed)
    observed = _estimate(importance.mean_estimator(scene.episodes.returns), counts, settings, None)
    weights = np.ones(scene.episodes.n_episodes)
    return Audit(variant, scene.behavior, weights, {"observed": observed}, {}, None, None)


def fit_evaluators(
    variant: Variant, scene: Scene, probabilities: np.ndarray, settings: EvaluationSettings
) -> dict[str, FqeResult]:
    """Fitted Q evaluation of a variant whose (n, 25) probabilities at the scored states are given, both ways."""
    trained = checked_probabilities(variant.policy, scene.train.states)
    training = Decisions(scene.train_inputs, trained, scene.train_behavior, scene.device)
    scored = Decisions(scene.scored_inputs, probabilities, scene.behavior, scene.device)
    counts = scene.counts(settings.fqe_refits, settings.seed)
    return {
        "fqe": fit_on_training(scene.train, training, scene.scored, scored, counts, settings),
        "fqe_cross_fitted": cross_fit(scene.scored, scored, counts, settings),
    }


def _estimators(
    scene: Scene, rho: np.ndarray, probabilities: np.ndarray, fqe: FqeResult, settings: EvaluationSettings
) -> dict[str, tuple[SumEstimator, float | None]]:
    """Each estimator with its cap on cumulative weights.

    The cap is a quantile of the episode weights, and none where that quantile is 0.
    """
    episodes: Episodes = scene.episodes
    q = episodes.pad(select_rows(fqe.q_values, scene.scored.actions))
    v = episodes.pad((probabilities * fqe.q_values).sum(axis=1))
    cap = float(np.quantile(rho[:, -1], settings.truncation_quantile)) or None
    truncated = rho if cap is None else np.minimum(rho, cap)
    return {
        "wis": (importance.weighted_importance_sampling(episodes, rho), None),
        "wis_truncated": (importance.weighted_importance_sampling(episodes, truncated), cap),
        "pdwis": (importance.weighted_per_decision(episodes, rho), None),
        "dr": (importance.doubly_robust(episodes, rho, q, v), None),
        "wdr": (importance.weighted_doubly_robust(episodes, rho, q, v), None),
        "wdr_truncated": (importance.weighted_doubly_robust(episodes, truncated, q, v), cap),
    }


def _estimate(
    estimator: SumEstimator, counts: np.ndarray, settings: EvaluationSettings, cap: float | None
) -> Estimate:
    lower, upper = interval(estimator, counts, method=settings.interval)
    return Estimate(
        value=_finite(estimator.value),
        lower=_finite(lower),
        upper=_finite(upper),
        method=f"{settings.interval} bootstrap of episodes",
        truncated_at=cap,
    )


def _difference(
    name: str,
    estimator: SumEstimator,
    clinicians: SumEstimator,
    counts: np.ndarray,
    settings: EvaluationSettings,
) -> Difference:
    lower, upper = difference_interval(estimator, clinicians, counts, method=settings.interval)
    return Difference(
        estimator=name,
        value=_finite(estimator.value - clinicians.value),
        lower=_finite(lower),
        upper=_finite(upper),
    )


def _fqe_difference(name: str, fqe: FqeResult, scene: Scene) -> Difference:
    """Fitted value of the policy minus mean return of the clinicians, refit by refit on the same resampled episodes."""
    returns = scene.episodes.returns
    observed = fqe.refit_counts @ returns / fqe.refit_counts.sum(axis=1)
    value = fqe.value - float(returns.mean())
    lower, upper = normal_interval(value, fqe.resampled() - observed)
    return Difference(estimator=name, value=value, lower=lower, upper=upper)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
