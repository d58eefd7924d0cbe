"""What every policy is evaluated against: scored episodes, training transitions and the clinicians' policy."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.evaluation.covariates import FittedOn, measure_covariates
from sepsis_cql.evaluation.estimators.episodes import Episodes, pad_episodes
from sepsis_cql.evaluation.estimators.fqe_basis import CPU
from sepsis_cql.evaluation.estimators.intervals import resample_patients
from sepsis_cql.evaluation.local_support import count_local_actions
from sepsis_cql.evaluation.policies.base import FunctionPolicy, checked_probabilities
from sepsis_cql.evaluation.policies.behavior import BehaviorPolicy, Covariate, fit_behavior
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.side_by_side import Part, Result, side_by_side
from sepsis_cql.replay.directory import Replay
from sepsis_cql.replay.transitions import Transitions

ROUNDING = 1e-6  # of a return, relative
REWARD_VARIANT = "sparse"  # survival is what a policy is judged by, whatever reward shaped its training


@dataclass(frozen=True)
class EvaluationData:
    """The data of one evaluation.

    Attributes:
        train: transitions the behavior policy and the evaluators are fitted on.
        scored: transitions the policies are scored on.
        train_inputs, scored_inputs: normalized states without NaN.
        episodes: the scored transitions as padded arrays.
        model: of the clinicians, from inputs; a function where they are known.
        train_behavior: (n, 25) the clinicians' probabilities at the training states.
        behavior: (n, 25) the same at the scored states.
        normalizer: clinical units to inputs.
        device: where evaluators are fitted.
        fitted_on: what a behavior policy was fitted on; None where the clinicians' probabilities are exact.
    """

    train: Transitions
    scored: Transitions
    train_inputs: np.ndarray
    scored_inputs: np.ndarray
    episodes: Episodes
    model: BehaviorPolicy | FunctionPolicy
    train_behavior: np.ndarray
    behavior: np.ndarray
    normalizer: Callable[[np.ndarray], np.ndarray]
    device: torch.device = CPU
    fitted_on: FittedOn | None = None
    _local_actions: dict[int, np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)
    _covariates: list[list[Covariate]] = field(default_factory=list, init=False, repr=False, compare=False)

    def covariates(self, settings: EvaluationSettings) -> list[Covariate]:
        """Return what leaving out the strongest measured covariates changes; nothing where the clinicians are known."""
        if self.fitted_on is None:
            return []
        if not self._covariates:
            self._covariates.append(measure_covariates(self.fitted_on, self.scored, self.episodes, settings))
        return self._covariates[0]

    def local_actions(self, neighbors: int) -> np.ndarray:
        """Return (n, 25) how many of the training states nearest to each scored one got each action; searched once."""
        if neighbors not in self._local_actions:
            self._local_actions[neighbors] = count_local_actions(
                self.train_inputs, self.train.actions, self.scored_inputs, neighbors
            )
        return self._local_actions[neighbors]

    def of_each(self, function: Callable[[Part], Result], parts: Iterable[Part]) -> list[Result]:
        """Return what `function` makes of each part: side by side on a processor, on a GPU one after the other."""
        if self.device.type == "cpu":
            return side_by_side(function, parts)
        return [function(part) for part in parts]

    def counts(self, n_resamples: int, seed: int) -> np.ndarray:
        """Return (R, n_episodes) counts of how often each episode is drawn, the same for every estimator and policy."""
        return resample_patients(self.scored, n_resamples, seed)

    def with_behavior(self, model: BehaviorPolicy) -> "EvaluationData":
        """Return the same data under another behavior policy on inputs."""
        train, scored = (model.probabilities(inputs) for inputs in (self.train_inputs, self.scored_inputs))
        changed = replace(self, model=model, train_behavior=train, behavior=scored)
        changed._local_actions.update(self._local_actions)
        return changed

    def clinicians(self, states: np.ndarray) -> np.ndarray:
        """Return the clinicians' (n, 25) estimated probabilities at states as the replay holds them."""
        for known, behavior in (
            (self.train.states, self.train_behavior),
            (self.scored.states, self.behavior),
        ):
            if states is known:
                return behavior
        return self.model.probabilities(self.normalizer(states))


def load_evaluation_data(
    replay: Replay,
    split: str,
    settings: EvaluationSettings,
    device: torch.device = CPU,
    *,
    behavior: FunctionPolicy | None = None,
) -> EvaluationData:
    """Read a replay directory and fit the behavior policy, unless one is given.

    One that is given is somebody's estimate, unless `behavior.exact` says that it is the truth, as of a randomized
    trial; one is then fitted beside it, by which measured covariates tell what a hidden one could change. Validation
    calibrates it when the test split is scored; otherwise patients held out of training do, so that the scored
    episodes never fit it.

    Args:
        replay: a directory.
        split: that is scored.
        settings: of the evaluation.
        device: where evaluators are fitted.
        behavior: the clinicians' probabilities at states as the replay holds them; fitted if None.

    Raises:
        EvaluationError: the replay is a single file, which has no training split, or the scored split is train; a
            return is larger than `bound`; or nobody gave a behavior policy that is said to be exact.
    """
    if replay.statistics is None:
        raise EvaluationError(
            f"{replay.path}: found a single file, expected a replay directory: the sound protocol fits the behavior "
            "policy and the evaluator on a training split. Use --protocol published, or a directory."
        )
    if split == "train":
        raise EvaluationError(
            "split: found train, expected validation or test; training episodes score nothing."
        )
    train, scored = (replay.transitions(name, REWARD_VARIANT) for name in ("train", split))
    _check_bound(replay, (train, scored), settings)
    normalizer = replay.statistics.normalizer
    held = replay.transitions("validation", REWARD_VARIANT) if split == "test" else None
    if behavior is None:
        if settings.behavior.exact:
            raise EvaluationError(
                "behavior.exact: found true without a function of the clinicians' probabilities, expected false: what "
                "is fitted is an estimate. Hand one over (`sepsis_cql.evaluate(..., behavior=...)`), or leave it out."
            )
        return assemble_estimated(train, scored, normalizer, settings, held=held, device=device)
    data = assemble_data(
        train,
        scored,
        normalizer,
        behavior,
        settings.gamma,
        known=lambda states: _positive(behavior, states),
        device=device,
    )
    fitted_on = None if settings.behavior.exact else _fit(train, normalizer, settings, held)
    # it takes states as the replay holds them
    return replace(data, normalizer=lambda states: states, fitted_on=fitted_on)


def _check_bound(replay: Replay, parts: tuple[Transitions, ...], settings: EvaluationSettings) -> None:
    """Refuse returns beyond the attainable range, on which gates and lower bounds rest."""
    largest = max(float(np.abs(pad_episodes(part, settings.gamma).returns).max()) for part in parts)
    if largest > settings.bound * (1 + ROUNDING):
        raise EvaluationError(
            f"{replay.path}: found returns of up to {largest:g}, expected at most the {settings.bound:g} of `bound` in "
            "the settings of the evaluation. Set it to the final reward that the replay was built with."
        )


def assemble_estimated(
    train: Transitions,
    scored: Transitions,
    normalizer: Callable[[np.ndarray], np.ndarray],
    settings: EvaluationSettings,
    *,
    held: Transitions | None = None,
    device: torch.device = CPU,
) -> EvaluationData:
    """Fit the behavior policy and apply it to training and scored decisions.

    Args:
        train: decisions it is fitted on.
        scored: decisions a policy is scored on.
        normalizer: maps states to inputs.
        settings: of the evaluation.
        held: other patients' decisions that calibrate it; a share of the training patients by default.
        device: where Q-values are computed.
    """
    fitted_on = _fit(train, normalizer, settings, held)
    data = assemble_data(train, scored, normalizer, fitted_on.model, settings.gamma, device=device)
    return replace(data, fitted_on=fitted_on)


def _fit(
    train: Transitions,
    normalizer: Callable[[np.ndarray], np.ndarray],
    settings: EvaluationSettings,
    held: Transitions | None,
) -> FittedOn:
    """Fit the behavior policy, calibrated on held patients or on a share of the training ones."""
    if held is None:
        is_held = hold_out(train.subject_id, settings.behavior.calibration_share, settings.seed)
        parts = [
            (train.states[rows], train.actions[rows], train.subject_id[rows]) for rows in (~is_held, is_held)
        ]
    else:
        parts = [(part.states, part.actions, part.subject_id) for part in (train, held)]
    inputs = [(normalizer(states), actions) for states, actions, _ in parts]
    model = fit_behavior(*inputs[0], *inputs[1], settings.behavior, settings.seed)
    return FittedOn(parts[0][:2], parts[1][:2], model, normalizer, parts[0][2], parts[1][2])


def assemble_data(
    train: Transitions,
    scored: Transitions,
    normalizer: Callable[[np.ndarray], np.ndarray],
    model: BehaviorPolicy | FunctionPolicy,
    gamma: float,
    *,
    known: Callable[[np.ndarray], np.ndarray] | None = None,
    device: torch.device = CPU,
) -> EvaluationData:
    """Apply a behavior policy to training and scored decisions.

    Args:
        train: decisions an evaluator is fitted on.
        scored: decisions a policy is scored on.
        normalizer: maps states to inputs.
        model: the behavior policy, on inputs.
        gamma: discount of one step.
        known: the clinicians' true probabilities by states, where they need no estimate.
        device: where Q-values are computed.
    """
    inputs = [normalizer(part.states) for part in (train, scored)]
    behavior = [
        model.probabilities(rows) if known is None else known(part.states)
        for part, rows in zip((train, scored), inputs, strict=True)
    ]
    return EvaluationData(
        train=train,
        scored=scored,
        train_inputs=inputs[0],
        scored_inputs=inputs[1],
        episodes=pad_episodes(scored, gamma),
        model=model,
        train_behavior=behavior[0],
        behavior=behavior[1],
        normalizer=normalizer,
        device=device,
    )


def _positive(behavior: FunctionPolicy, states: np.ndarray) -> np.ndarray:
    """(n, 25) probabilities of a behavior policy, refused where one is 0: it stands below every weight."""
    probabilities = checked_probabilities(behavior, states)
    if n := int((probabilities <= 0).any(axis=1).sum()):
        raise EvaluationError(
            f"{behavior.name}: in {n} of {len(states)} states a dose has probability 0, expected a positive one for "
            "all 25. Mix in a little of the overall frequencies."
        )
    return probabilities


def hold_out(subject_id: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return a (n,) mask of the decisions of a share of the patients, at least of one."""
    patients = np.random.default_rng(seed).permutation(np.unique(subject_id))
    return np.isin(subject_id, patients[: max(1, round(share * len(patients)))])
