"""Choices that are varied keep what must not change: the outcome where decisions are cut off."""

import numpy as np
import pytest

from sepsis_cql.evaluation.estimators.episodes import pad_episodes
from sepsis_cql.evaluation.variations import cut_episodes
from sepsis_cql.replay.transitions import Transitions, check_transitions

GAMMA = 0.9


@pytest.fixture
def stays():
    """Three stays of 4, 1 and 3 steps; the second reward of the first is shaped."""
    stay_id = np.array([1, 1, 1, 1, 2, 3, 3, 3])
    states = np.arange(8, dtype=np.float32)[:, None]
    last = np.r_[stay_id[1:] != stay_id[:-1], True]
    return Transitions(
        states=states,
        actions=np.arange(8),
        rewards=np.array([0, 0.5, 0, 15, -15, 0, 0, -15.0]),
        next_states=np.where(last[:, None], states, np.roll(states, -1, axis=0)),
        terminals=last,
        stay_id=stay_id,
        subject_id=stay_id,
        step_index=np.array([0, 1, 2, 3, 0, 0, 1, 2]),
        state_names=("x",),
        normalized=False,
    )


@pytest.mark.parametrize("steps", [1, 2, 3, 9])
def test_cutting_decisions_off_leaves_every_return_as_it_was(stays, steps):
    cut, kept = cut_episodes(stays, np.full(3, steps), GAMMA)
    assert pad_episodes(cut, GAMMA).returns == pytest.approx(pad_episodes(stays, GAMMA).returns)
    assert np.array_equal(cut.actions, np.flatnonzero(kept)) and cut.step_index.max() < steps
    assert cut.terminals.sum() == cut.n_episodes == 3


def test_each_stay_is_cut_at_its_own_step(stays):
    cut, _ = cut_episodes(stays, np.array([2, 1, 3]), GAMMA)
    assert cut.actions.tolist() == [0, 1, 4, 5, 6, 7]
    assert cut.rewards == pytest.approx([0, 0.5 + GAMMA**2 * 15, -15, 0, 0, -15])
    whole, _ = cut_episodes(stays, np.array([4, 1, 3]), GAMMA)
    assert check_transitions(whole, "x").rewards == pytest.approx(stays.rewards)
