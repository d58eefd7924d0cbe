"""How far the difference to clinicians and the verdict rest on choices: discount, horizon, reward, comfort measures.

Each variation estimates the same version of the policy anew on the same episodes with one thing changed; the behavior
policy stays, but in the row that tells what its own uncertainty adds. Where decisions are cut off, the policy acts
before and the clinicians afterwards, so that the outcome keeps its meaning: the discounted rest of the return is the
reward of the last decision that is kept.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from sepsis_cql.evaluation.behavior_refits import widen_by_refits
from sepsis_cql.evaluation.data import EvaluationData
from sepsis_cql.evaluation.estimate import PolicyEstimate, estimate_policy
from sepsis_cql.evaluation.estimators.episodes import pad_episodes
from sepsis_cql.evaluation.record import Variation
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.verdict import check_gates, judge
from sepsis_cql.replay.directory import ReplayDirectory
from sepsis_cql.replay.transitions import Transitions

SHAPED = "sofa_shaped"
REFITTED = "behavior policy refitted"
Changed = tuple[str, EvaluationData, EvaluationSettings]
Report = Callable[[str, int], None]


def vary(
    judged: PolicyEstimate,
    data: EvaluationData,
    replay: ReplayDirectory,
    split: str,
    settings: EvaluationSettings,
    *,
    barred: str | None = None,
    looks: int = 1,
    report: Report = lambda text, left: None,
) -> list[Variation]:
    """Estimate a policy anew under each variation, the evaluation as it is first.

    The verdicts are those of the gates and of the difference; baselines are not estimated anew.

    Args:
        judged: the version of the policy that the verdict is about.
        data: it was estimated on.
        replay: with rewards and times of comfort measures.
        split: that is scored.
        settings: of the evaluation; the section `sensitivity` says what is varied.
        barred: why these episodes cannot endorse the policy; None where they can.
        looks: policies that these episodes have judged, this one with them.
        report: called with what is done next, and how many such calls follow.
    """
    covariates = data.covariates(settings)
    variations = list(_list_variations(data, replay, split, settings))
    rows = []

    def add(name: str, found: PolicyEstimate, changed: EvaluationData, told: EvaluationSettings) -> None:
        gates = check_gates(found, changed.behavior, told, covariates, looks=looks)
        verdict = judge(found, gates, [], told, barred=barred).label
        rows.append(
            Variation(name=name, ess=found.summary.ess, differences=found.differences, verdict=verdict)
        )

    for index, (name, changed, told) in enumerate(variations):
        report(name, len(variations) - index)
        found = (
            judged if changed is data else estimate_policy(judged.evaluated, changed, told, told.resamples)
        )
        add(name, found, changed, told)
    report(REFITTED, 0)
    widened = widen_by_refits(judged, data, settings, settings.sensitivity.behavior_refits)
    if widened is not judged:
        add(REFITTED, widened, data, settings)
    return rows


def cut_episodes(transitions: Transitions, steps: np.ndarray, gamma: float) -> tuple[Transitions, np.ndarray]:
    """Keep the first decisions of each episode, the last of which is rewarded with the discounted rest of the return.

    Args:
        transitions: whole episodes.
        steps: (n_episodes,) decisions to keep of each, at least 1.
        gamma: discount a step.

    Returns:
        The episodes, and (n,) which transitions were kept.
    """
    episodes = pad_episodes(transitions, gamma)
    rest = episodes.rewards.copy()
    for step in range(rest.shape[1] - 2, -1, -1):
        rest[:, step] += gamma * rest[:, step + 1]
    kept = episodes.columns < steps[episodes.rows]
    last = kept & (transitions.terminals | (episodes.columns == steps[episodes.rows] - 1))
    rewards = np.where(last, rest[episodes.rows, episodes.columns], transitions.rewards)
    return replace(transitions.take(kept), rewards=rewards[kept], terminals=last[kept]), kept


def _list_variations(
    data: EvaluationData, replay: ReplayDirectory, split: str, settings: EvaluationSettings
) -> Iterator[Changed]:
    """Name, data and settings of each variation."""
    yield "as evaluated", data, settings
    rules = settings.sensitivity
    for gamma in rules.gammas:
        told = settings.model_copy(update={"gamma": gamma})
        yield f"gamma {gamma:g}", replace(data, episodes=replace(data.episodes, gamma=gamma)), told
    for steps in rules.first_steps:
        cut = [np.full(part.n_episodes, steps) for part in (data.train, data.scored)]
        yield f"first {steps} decisions", _cut(data, cut, settings), settings
    known = [replay.steps_before_comfort(name) for name in ("train", split)]
    if len(until := [found for found in known if found is not None]) == len(known):
        yield "decisions before comfort measures", _cut(data, until, settings), settings
    yield _with_reward(data, replay, split, settings)


def _cut(data: EvaluationData, steps: list[np.ndarray], settings: EvaluationSettings) -> EvaluationData:
    """The data with the first decisions of the training and of the scored episodes."""
    train, of_train = cut_episodes(data.train, steps[0], settings.gamma)
    scored, of_scored = cut_episodes(data.scored, steps[1], settings.gamma)
    return replace(
        data,
        train=train,
        scored=scored,
        train_inputs=data.train_inputs[of_train],
        scored_inputs=data.scored_inputs[of_scored],
        train_behavior=data.train_behavior[of_train],
        behavior=data.behavior[of_scored],
        episodes=pad_episodes(scored, settings.gamma),
    )


def _with_reward(
    data: EvaluationData, replay: ReplayDirectory, split: str, settings: EvaluationSettings
) -> Changed:
    """The data with shaped rewards, and the largest return that they can add up to here."""
    train, scored = (
        replace(part, rewards=replay.transitions(name, SHAPED).rewards)
        for part, name in ((data.train, "train"), (data.scored, split))
    )
    episodes = pad_episodes(scored, settings.gamma)
    returns = np.concatenate([episodes.returns, pad_episodes(train, settings.gamma).returns])
    bound = max(settings.bound, float(np.abs(returns).max()))
    told = settings.model_copy(update={"bound": bound})
    return f"reward {SHAPED}", replace(data, train=train, scored=scored, episodes=episodes), told
