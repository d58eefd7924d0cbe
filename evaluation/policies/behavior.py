"""The clinicians' policy, estimated: the denominator of every weight.

Candidates are fitted on training decisions, compared by likelihood on decisions of other patients, and calibrated
there. Calibration divides log-probabilities by a temperature and mixes in the overall action frequencies, both
chosen by likelihood; so every action keeps a positive probability however few decisions there are.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from sepsis_cql.common.strict import Record
from sepsis_cql.evaluation.estimators.episodes import select_rows
from sepsis_cql.evaluation.policies.boosting import Boosting
from sepsis_cql.evaluation.settings import BehaviorSettings
from sepsis_cql.evaluation.side_by_side import side_by_side
from sepsis_cql.replay.rows.actions import N_ACTIONS


class Candidate(Record):
    """A behavior model: mean log-likelihood and expected calibration error on held-out decisions."""

    name: str
    log_likelihood: float
    calibration_error: float


class ReliabilityBin(Record):
    """Decisions whose predicted probability fell into one bin."""

    predicted: float
    observed: float
    n: int


class Covariate(Record):
    """What leaving out one measured covariate changes, as a factor up or down; see `evaluation.covariates`.

    Attributes:
        name: of the column.
        odds: of the doses given, at most, in a share of the scored decisions (`covariates.decisions`).
        weights: of the clinicians' probability of all that was done in a stay, at most, in that share of the stays.
    """

    name: str
    odds: float
    weights: float


class Behavior(Record):
    """The behavior policy: which model, against which others, how well calibrated on the scored decisions.

    `divergence_from_truth` is the mean Kullback-Leibler divergence of the true policy from it, in nats, where the
    episodes come from the simulator. `covariates` are the measured ones that it needs most, the strongest first.
    """

    chosen: str
    temperature: float
    marginal_share: float
    candidates: list[Candidate]
    scored_log_likelihood: float
    reliability: list[ReliabilityBin]
    divergence_from_truth: float | None = None
    covariates: list[Covariate] = Field(default_factory=list, exclude_if=lambda found: not found)


@dataclass(frozen=True)
class BehaviorPolicy:
    """A fitted and calibrated model of what clinicians do.

    Attributes:
        name: of the kind of model.
        classifier: gives probabilities of the actions it has seen.
        temperature: divides log-probabilities.
        marginal: (25,) overall action frequencies, all positive.
        marginal_share: their weight.
        candidates: all kinds of models compared.
        floor: of the classifier's probabilities.
    """

    name: str
    classifier: Any
    temperature: float
    marginal: np.ndarray
    marginal_share: float
    candidates: tuple[Candidate, ...]
    floor: float

    def probabilities(self, inputs: np.ndarray) -> np.ndarray:
        """Return (n, 25) action probabilities, all positive, for (n, d) network inputs."""
        logs = _log_probabilities(self.classifier, inputs, self.floor)
        return _calibrate(logs, self.temperature, self.marginal, self.marginal_share)


def fit_behavior(
    inputs: np.ndarray,
    actions: np.ndarray,
    held_inputs: np.ndarray,
    held_actions: np.ndarray,
    settings: BehaviorSettings,
    seed: int,
) -> BehaviorPolicy:
    """Fit the behavior policy: the most likely of several models, calibrated on other patients.

    Args:
        inputs: (n, d) network inputs of training decisions.
        actions: (n,) what clinicians did.
        held_inputs: (m, d) of other patients, who choose and calibrate the model.
        held_actions: (m,) theirs.
        settings: candidates and calibration grid.
        seed: of the models.
    """
    rng = np.random.default_rng(seed)
    marginal = (np.bincount(actions, minlength=N_ACTIONS) + 1.0) / (len(actions) + N_ACTIONS)
    few = rng.permutation(len(actions))[: settings.selection_rows]
    few_held = rng.permutation(len(held_actions))[: settings.selection_rows]

    def compare(name: str) -> tuple[Candidate, Any]:
        fitted = _fit(name, inputs[few], actions[few], settings, seed)
        logs = _log_probabilities(fitted, held_inputs[few_held], settings.floor)
        *calibration, likelihood = _choose_calibration(logs, held_actions[few_held], marginal, settings)
        probabilities = _calibrate(logs, calibration[0], marginal, calibration[1])
        bins = measure_reliability(
            probabilities, held_actions[few_held], settings.reliability_bins, smallest=1
        )
        error = compute_calibration_error(bins)
        return Candidate(name=name, log_likelihood=likelihood, calibration_error=error), fitted

    with ignore_convergence():
        compared = side_by_side(compare, settings.models)
        best, classifier = max(compared, key=lambda pair: pair[0].log_likelihood)
        if len(few) < len(actions):
            classifier = _fit(best.name, inputs, actions, settings, seed)
    logs = _log_probabilities(classifier, held_inputs, settings.floor)
    temperature, share, _ = _choose_calibration(logs, held_actions, marginal, settings)
    candidates = tuple(candidate for candidate, _ in compared)
    return BehaviorPolicy(best.name, classifier, temperature, marginal, share, candidates, settings.floor)


@contextmanager
def ignore_convergence() -> Iterator[None]:
    """Keep silent that a fit stopped early: likelihood on other patients decides.

    Whoever fits in several threads does so within one of these, because leaving it is not the work of one thread alone.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def describe_behavior(
    policy: BehaviorPolicy, probabilities: np.ndarray, actions: np.ndarray, settings: BehaviorSettings
) -> Behavior:
    """Return the record of the behavior policy, with its reliability on the scored decisions."""
    return Behavior(
        chosen=policy.name,
        temperature=policy.temperature,
        marginal_share=policy.marginal_share,
        candidates=list(policy.candidates),
        scored_log_likelihood=float(np.log(select_rows(probabilities, actions)).mean()),
        reliability=measure_reliability(
            probabilities, actions, settings.reliability_bins, settings.smallest_bin
        ),
    )


def measure_reliability(
    probabilities: np.ndarray, actions: np.ndarray, n_bins: int, smallest: int
) -> list[ReliabilityBin]:
    """Measure how often the likeliest action was given, by its predicted probability; small bins are left out."""
    predicted = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == actions
    bins = np.minimum((predicted * n_bins).astype(int), n_bins - 1)
    return [
        ReliabilityBin(
            predicted=float(predicted[inside].mean()),
            observed=float(right[inside].mean()),
            n=int(inside.sum()),
        )
        for inside in (bins == k for k in range(n_bins))
        if inside.sum() >= smallest
    ]


def compute_calibration_error(bins: list[ReliabilityBin]) -> float:
    """Return the expected calibration error: mean distance of predicted and observed frequency over decisions."""
    total = sum(cell.n for cell in bins)
    return sum(cell.n * abs(cell.predicted - cell.observed) for cell in bins) / total


def _fit(name: str, inputs: np.ndarray, actions: np.ndarray, settings: BehaviorSettings, seed: int) -> Any:
    near = settings.neighbors
    model = {
        "multinomial logistic": LogisticRegression(**settings.logistic.model_dump()),
        "multilayer perceptron": MLPClassifier(**settings.perceptron.model_dump(), random_state=seed),
        "gradient boosting": Boosting(
            **settings.boosting.model_dump(), early_stopping=False, random_state=seed
        ),
        "nearest neighbors": KNeighborsClassifier(
            min(near.n_neighbors, max(1, len(actions) // near.decisions_per_neighbor))
        ),
    }[name]
    if len(np.unique(actions)) == 1:
        model = KNeighborsClassifier(1)  # the others refuse a single class
    with threadpool_limits(1):  # several take longer: those of BLAS and of OpenMP wait for one another
        return model.fit(_exact(inputs), actions)


def _log_probabilities(classifier: Any, inputs: np.ndarray, floor: float) -> np.ndarray:
    """(n, 25) log-probabilities; actions the classifier never saw get the floor."""
    probabilities = np.full((len(inputs), N_ACTIONS), floor)
    probabilities[:, classifier.classes_] = np.maximum(classifier.predict_proba(_exact(inputs)), floor)
    return np.log(probabilities)


def _exact(inputs: np.ndarray) -> np.ndarray:
    """Inputs in float64: in float32 the order of sums, another on every machine, decides where a fit stops."""
    return inputs.astype(np.float64)


def _calibrate(logs: np.ndarray, temperature: float, marginal: np.ndarray, share: float) -> np.ndarray:
    return (1 - share) * softmax(logs / temperature, axis=1) + share * marginal


def _choose_calibration(
    logs: np.ndarray, actions: np.ndarray, marginal: np.ndarray, settings: BehaviorSettings
) -> tuple[float, float, float]:
    """Temperature and share of the marginal with the largest mean log-likelihood, and that likelihood."""
    best = (1.0, 1.0, -np.inf)
    largest, usual = logs.max(axis=1, keepdims=True), marginal[actions]
    for temperature in settings.temperatures:
        odds = np.exp(logs / temperature - largest / temperature)
        own = select_rows(odds, actions) / odds.sum(axis=1)  # softmax, of what was given alone
        for share in settings.marginal_shares:
            likelihood = float(np.log((1 - share) * own + share * usual).mean())
            best = max(best, (temperature, share, likelihood), key=lambda choice: choice[2])
    return best
