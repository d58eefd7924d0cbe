"""Small transitions with something to learn, and settings of short runs."""

from typing import Any

import numpy as np
import torch

from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig
from sepsis_cql.replay.transitions import Transitions
from sepsis_cql.training.data import TrainingData, sha256_transitions
from sepsis_cql.training.settings import RuntimeSettings, TrainingSettings

CPU = torch.device("cpu")


def make_transitions(n_stays: int = 40, seed: int = 0, n_states: int = 62) -> Transitions:
    """Stays of 1 to 8 steps; survival depends on the first state column and on giving action 3."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, size=n_stays)
    n = int(lengths.sum())
    stay_id = np.repeat(np.arange(n_stays), lengths)
    terminals = np.r_[stay_id[1:] != stay_id[:-1], True]
    states = rng.normal(size=(n, n_states)).astype(np.float32)
    actions = rng.integers(0, 25, size=n)
    survived = (states[:, 0] + (actions == 3) > 0) & terminals
    names = SepsisCQLConfig().state_names if n_states == 62 else [f"feature_{i}" for i in range(n_states)]
    return Transitions(
        states=states,
        actions=actions,
        rewards=np.where(terminals, np.where(survived, 15.0, -15.0), 0.0),
        next_states=np.where(terminals[:, None], states, np.roll(states, -1, axis=0)),
        terminals=terminals,
        stay_id=stay_id,
        subject_id=stay_id,
        step_index=np.concatenate([np.arange(length) for length in lengths]),
        state_names=tuple(names),
        normalised=True,
    )


def make_data(**kwargs: Any) -> TrainingData:
    transitions = make_transitions(**kwargs)
    shaped = transitions.rewards - 0.025 * transitions.states[:, 1]
    rewards = {"sparse": transitions.rewards, "sofa_shaped": shaped}
    return TrainingData(
        transitions=transitions,
        rewards=rewards,
        statistics=None,
        source={"name": "made-up", "version": "1"},
        fingerprint=None,
        sha256=sha256_transitions(transitions, rewards),
    )


SETTINGS = TrainingSettings(
    reward_variant="sparse",
    learning_rate=1e-3,
    alpha=0.1,
    gamma=0.99,
    batch_size=32,
    epochs=6,
    target_update_epochs=2,
    grad_clip=10.0,
    hidden_sizes=[16, 16],
    seed=7,
    checkpoint_epochs=2,
    keep_checkpoints=2,
)
RUNTIME = RuntimeSettings(device="cpu", threads=1)
