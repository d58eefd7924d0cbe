"""Whole selections among candidates none of which is better than the clinicians: how often is one endorsed in the end?

    python benchmarks/null_candidates.py --repetitions 100 --out benchmarks/null_candidates.json

On ICU-Sepsis with known clinicians, every repetition draws training, validation and test episodes and candidates anew.
Validation chooses the candidate with the highest lower bound among those whose estimates it can judge, as a sweep does;
the test split judges that one. `equal`: doses have no effect, so all candidates equal the clinicians; `worse`: all are
worse. Beside the rate of wrong endorsements stands how often the lower bound of the chosen difference lies above 0
where it was chosen, on validation, which endorses nothing.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np

from sepsis_cql.common.provenance import git_commit
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.data import EvaluationData, assemble_data
from sepsis_cql.evaluation.estimate import estimate_policy, weigh_policy
from sepsis_cql.evaluation.estimators.fqe import cross_fit
from sepsis_cql.evaluation.estimators.fqe_basis import Decisions
from sepsis_cql.evaluation.estimators.intervals import compute_normal_interval
from sepsis_cql.evaluation.known_truth.icu_sepsis import load_icu_sepsis
from sepsis_cql.evaluation.known_truth.settings import CaseSettings
from sepsis_cql.evaluation.known_truth.summary import count_share
from sepsis_cql.evaluation.known_truth.varied_icu import VariedIcu, vary
from sepsis_cql.evaluation.policies.base import FunctionPolicy, tilt_behavior
from sepsis_cql.evaluation.policies.softened import EvaluatedPolicy
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.verdict import check_gates, check_overlap, judge

CANDIDATES, EPISODES, RESAMPLES, REFITS = 8, 600, 100, 40
SPREAD = 0.3  # standard deviation of a candidate's preferences for doses, in logarithms
HARM = 0.5  # how much worse candidates dislike what is worth more
BETTER = "better than clinicians"
KINDS = {"equal": True, "worse": False}  # whether doses are without effect


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--repetitions", type=int, default=100)
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    settings = load_shipped(EvaluationSettings, "evaluation.yaml", {"fqe": {"refits": REFITS}})
    plain = load_icu_sepsis(settings.gamma, settings.bound)
    found = {}
    for kind, is_null in KINDS.items():
        case = CaseSettings(
            environment="icu-sepsis",
            training=EPISODES,
            scored=EPISODES,
            behavior="known",
            without_effect=is_null,
        )
        process = vary(plain, case, settings.bound)
        work = partial(repeat, process, settings, is_null)
        outcomes = np.array([work(seed) for seed in range(given.repetitions)])
        shares = [count_share(column.astype(bool)).model_dump() for column in outcomes.T]
        found[kind] = dict(
            zip(("endorsed_after_freezing", "praised_where_selected", "selected"), shares, strict=True)
        )
        print(kind, json.dumps(found[kind]), flush=True)
    if given.out:
        facts = {"repetitions": given.repetitions, "candidates": CANDIDATES, "episodes": EPISODES}
        record = facts | {"commit": git_commit(), "kinds": found}
        given.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def repeat(
    process: VariedIcu, settings: EvaluationSettings, is_null: bool, seed: int
) -> tuple[bool, bool, bool]:
    """Whether the frozen candidate is endorsed, whether its validation praised it, whether one was selected."""
    settings = settings.model_copy(update={"seed": seed})
    table = np.maximum(process.clinicians, 1e-12)
    samples = [process.simulate(EPISODES, 1000 * part + seed) for part in (1, 2, 3)]
    known = FunctionPolicy("clinicians", partial(look_up, process, table))
    validation, test = (
        assemble_data(
            samples[0], part, lambda states: states, known, settings.gamma, known=known.probabilities
        )
        for part in samples[1:]
    )
    candidates = draw_candidates(process, table, is_null, np.random.default_rng(seed))
    scores = [score(candidate, validation, settings) for candidate in candidates]
    values, lower = max(scores, key=lambda one: one[0], default=(-np.inf, -np.inf))
    if not np.isfinite(values):
        return False, False, False
    best = [one[0] for one in scores].index(values)
    found = estimate_policy(candidates[best], test, settings, RESAMPLES)
    verdict = judge(found, check_gates(found, test.behavior, settings), [], settings)
    return verdict.label == BETTER, lower > 0, True


def look_up(process: VariedIcu, table: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Rows of an (S, 25) table at (n, d) states."""
    return np.asarray(table[process.plain.state_index(states)])


def draw_candidates(
    process: VariedIcu, table: np.ndarray, is_null: bool, rng: np.random.Generator
) -> list[EvaluatedPolicy]:
    """Policies that prefer doses by chance, and where doses have effects dislike what is worth more."""
    features, found = process.plain.features, []
    worth = process.plain.optimal_q - process.plain.optimal_q.mean(axis=1, keepdims=True)
    for number in range(CANDIDATES):
        taste = features @ rng.normal(size=(features.shape[1], table.shape[1]))
        taste = SPREAD * taste / taste.std() - (0 if is_null else HARM * worth)
        policy = tilt_behavior(taste, table, 1.0)
        gain = process.true_value(policy) - process.clinicians_value
        if gain < 1e-6:
            act = FunctionPolicy(f"candidate {number}", partial(look_up, process, policy))
            found.append(EvaluatedPolicy(act, "learned", "none"))
    return found


def score(
    candidate: EvaluatedPolicy, data: EvaluationData, settings: EvaluationSettings
) -> tuple[float, float]:
    """Lower bounds of the value, by which a sweep ranks, and of the difference; -inf without overlap."""
    probabilities, rho = weigh_policy(candidate.policy, data)
    if not all(gate.passed for gate in check_overlap(probabilities, rho[:, -1], data.behavior, settings)):
        return -np.inf, -np.inf
    counts = data.counts(REFITS, settings.seed)
    quick = settings.model_copy(update={"fqe": settings.fqe.model_copy(update={"sweeps": 1})})  # bounded ones
    fit = cross_fit(data.scored, Decisions(data.scored_inputs, probabilities, data.behavior), counts, quick)
    observed = counts @ data.episodes.returns / counts.sum(axis=1)
    gain = fit.value - float(data.episodes.returns.mean())
    return fit.interval()[0], compute_normal_interval(gain, fit.resampled() - observed)[0]


if __name__ == "__main__":
    main()
