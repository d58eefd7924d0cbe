"""What is found beside the mean: the mean return of the worst-off, and bounds that need no large sample."""

import numpy as np

from sepsis_cql.evaluation.data import EvaluationData
from sepsis_cql.evaluation.estimate import PolicyEstimate
from sepsis_cql.evaluation.estimators.lower_bound import bound_difference, bound_value
from sepsis_cql.evaluation.estimators.tails import bootstrap_worst, mean_of_worst
from sepsis_cql.evaluation.estimators.weights import effective_sample_size
from sepsis_cql.evaluation.record import Certain, Tail
from sepsis_cql.evaluation.settings import EvaluationSettings

PARTS = 20  # of the resamples, each sorted and weighted at a time


def describe_tails(
    policy_estimate: PolicyEstimate,
    data: EvaluationData,
    settings: EvaluationSettings,
    true_returns: np.ndarray | None = None,
) -> list[Tail]:
    """Return the mean return of each share of the worst-off.

    It has no value where all weights, or those of the share, are worth too few episodes.

    Args:
        policy_estimate: of the policy, or of the clinicians, whose weights are 1.
        data: the scored episodes.
        settings: shares and smallest effective sample sizes.
        true_returns: of the policy in the simulator that the episodes come from; None for patients.
    """
    returns, weights = data.episodes.returns, policy_estimate.weights
    ess = effective_sample_size(weights)
    smallest = 0.0 if policy_estimate.evaluated.role == "clinicians" else settings.gates.minimum_ess
    shares, tails = settings.tails.shares, []
    known = None if true_returns is None else mean_of_worst(true_returns, np.ones(len(true_returns)), shares)
    found = None
    if ess >= max(smallest, settings.tails.minimum_ess):
        counts = np.array_split(data.counts(settings.resamples, settings.seed), PARTS)
        found = bootstrap_worst(returns, weights, shares, counts).tolist()
    for index, share in enumerate(shares):
        is_enough = share * ess >= settings.tails.minimum_ess
        value, lower, upper = found[index] if found and is_enough else (None, None, None)
        true = None if known is None else float(known[index])
        tails.append(Tail(share=share, value=value, lower=lower, upper=upper, true_value=true))
    return tails


def describe_certain(
    policy_estimate: PolicyEstimate, data: EvaluationData, settings: EvaluationSettings
) -> Certain:
    """Return the lower bounds of a policy's value and of its difference to the clinicians."""
    given = data.episodes.returns, policy_estimate.weights, settings.bound
    return Certain(value=bound_value(*given), difference=bound_difference(*given))
