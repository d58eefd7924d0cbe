"""True values under the shaped reward: rollouts written as tables and built, because SOFA is the replay's to count."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from sepsis_cql.common.ownership import scratch_directory
from sepsis_cql.replay.build import build_replay
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.replay.rows.splits import SPLITS
from sepsis_cql.replay.settings import BuildSettings
from sepsis_cql.replay.transitions import Transitions
from sepsis_cql.synthetic.rendering.render import synthesize
from sepsis_cql.synthetic.truth import Policy, TrueValue, Truth, average

ONLY_COHORT = {"cohort": 1.0, "earlier_stay": 0.0, "later_septic_stay": 0.0}
REWARD_VARIANT = "sofa_shaped"


def shaped_value(
    truth: Truth, policy: Policy, n_episodes: int, seed: int, settings: BuildSettings, *, gamma: float
) -> TrueValue:
    """Estimate the value of a policy, as `Truth.value` does, under the `sofa_shaped` reward, by at least 40 rollouts.

    Raises:
        SepsisCQLError: too few rollouts, or the policy gives no probabilities.
    """
    rendering = truth.settings.rendering.model_copy(update=ONLY_COHORT)
    world = replace(truth, settings=truth.settings.model_copy(update={"rendering": rendering}))
    with scratch_directory(Path(tempfile.gettempdir())) as folder:
        made = synthesize(folder / "tables", n_episodes, seed, world.settings, choose=world.doses(policy))
        build_replay(folder / "tables", folder / "replay", settings)
        replay = open_replay(folder / "replay")
        returns = np.concatenate(
            [_returns(replay.transitions(split, REWARD_VARIANT), gamma) for split in SPLITS]
        )
    return average(returns, float(made.episodes.icu.died.mean()))


def _returns(transitions: Transitions, gamma: float) -> np.ndarray:
    """Discounted return of each episode."""
    rewards = transitions.rewards * gamma**transitions.step_index
    returns: np.ndarray = np.add.reduceat(rewards, transitions.episode_starts)
    return returns
