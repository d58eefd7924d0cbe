"""Add an estimator of a policy's value: one function and one row of the table that everything iterates over.

    python examples/add_an_estimator.py

Ordinary per-decision importance sampling (PDIS; Precup et al. 2000) is added here. Data and truth come from ICU-Sepsis
(Choudhary et al. 2024), a decision process whose values are exact. Research only, not for patient care.
"""

import numpy as np

from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.data import EvaluationData
from sepsis_cql.evaluation.estimate import estimate_policy
from sepsis_cql.evaluation.estimators.episodes import pad_episodes
from sepsis_cql.evaluation.estimators.importance import SumEstimator, mean_estimator
from sepsis_cql.evaluation.estimators.table import ESTIMATORS, Estimator, Given, list_captions
from sepsis_cql.evaluation.known_truth.icu_sepsis import load_icu_sepsis
from sepsis_cql.evaluation.policies.base import FunctionPolicy, tilt_behavior
from sepsis_cql.evaluation.policies.softened import EvaluatedPolicy
from sepsis_cql.evaluation.settings import EvaluationSettings


# 1. The function: a mean of one number an episode. Point value, bootstrap and jackknife all follow from it.
def per_decision(given: Given) -> SumEstimator:
    """Return PDIS: the mean of sum_t gamma^t rho_t r_t, with rho_t the ratio of policy to clinicians up to step t."""
    return mean_estimator((given.rho * given.episodes.rewards) @ given.episodes.discounts)


# 2. The row. Unweighted importance sampling may leave the attainable range by chance, so it is not `is_gated`.
ESTIMATORS["pdis"] = Estimator("PDIS", per_decision, shown=("card", "figures", "terminal"))

# 3. Any evaluation now contains it. Here: 1000 episodes to fit on, 500 to score on, clinicians known.
settings = load_shipped(EvaluationSettings, "evaluation.yaml", {"fqe": {"refits": 20}, "resamples": 200})
icu = load_icu_sepsis(settings.gamma, settings.bound)
clinicians = np.maximum(icu.clinicians, 1e-12)
train, scored = icu.simulate(1000, seed=1), icu.simulate(500, seed=2)
data = EvaluationData(
    train=train,
    scored=scored,
    train_inputs=train.states,
    scored_inputs=scored.states,
    episodes=pad_episodes(scored, settings.gamma),
    model=FunctionPolicy("clinicians", lambda states: clinicians[icu.state_index(states)]),
    train_behavior=clinicians[icu.state_index(train.states)],
    behavior=clinicians[icu.state_index(scored.states)],
    normalizer=lambda states: states,
)
table = tilt_behavior(icu.optimal_q, clinicians, temperature=1.0)
policy = FunctionPolicy(
    "clinicians, tilted towards the optimum", lambda states: table[icu.state_index(states)]
)
found = estimate_policy(EvaluatedPolicy(policy, "learned", "none"), data, settings, settings.resamples)

print(f"{policy.name}: true value {icu.true_value(table):.2f}")
for name, caption in list_captions().items():
    if name in found.estimates:
        one = found.estimates[name]
        ends = "" if one.lower is None else f" [{one.lower:.2f}, {one.upper:.2f}]"
        print(f"{caption:>26} {one.value:6.2f}{ends}")

# 4. So do the report, which shows every row, and the card, figures and terminal, which show what the row says.
print(f"columns of the report: {', '.join(list_captions().values())}")
assert found.estimates["pdis"].method == "bca bootstrap of episodes"
assert all("PDIS" in list_captions(place).values() for place in ("card", "figures", "terminal"))
