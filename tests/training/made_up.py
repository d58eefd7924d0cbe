"""Small transitions with something to learn, and settings of short runs."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from sepsis_cql.common.strict import load_shipped
from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.replay.records import Source
from sepsis_cql.replay.settings import Features
from sepsis_cql.replay.transitions import Transitions
from sepsis_cql.training.data import TrainingData, sha256_transitions
from sepsis_cql.training.learners.registry import parse_settings
from sepsis_cql.training.records import Score
from sepsis_cql.training.run import Run
from sepsis_cql.training.settings import RuntimeSettings, TrainingSettings
from sepsis_cql.training.sweep.jobs import Job, Scorer

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
        normalized=True,
    )


def make_data(**kwargs: Any) -> TrainingData:
    transitions = make_transitions(**kwargs)
    shaped = transitions.rewards - 0.025 * transitions.states[:, 1]
    rewards = {"sparse": transitions.rewards, "sofa_shaped": shaped}
    return TrainingData(
        transitions=transitions,
        rewards=rewards,
        statistics=None,
        source=Source(name="made-up", version="1"),
        fingerprint="f" * 64,
        sha256=sha256_transitions(transitions, rewards),
        features=load_shipped(Features, "features.yaml"),
        step_hours=4,
    )


COMMON = {
    "reward_variant": "sparse",
    "learning_rate": 1e-3,
    "batch_size": 32,
    "epochs": 6,
    "grad_clip": 10.0,
    "hidden_sizes": [16, 16],
    "seed": 7,
    "checkpoint_epochs": 2,
    "keep_checkpoints": 2,
}
COPIED, FOLLOWING = {"gamma": 0.99, "target_update_epochs": 2}, {"gamma": 0.99, "target_rate": 0.1}
OWN: dict[str, dict[str, Any]] = {  # settings of each learner beyond the common ones
    "ai_clinician": {"gamma": 0.99, "min_count": 1, "hidden_sizes": [16]},
    "bcq": FOLLOWING | {"smallest_share": 0.3, "logit_penalty": 0.01},
    "behavior_cloning": {},
    "cql": COPIED | {"alpha": 0.1},
    "double_cql": COPIED | {"alpha": 0.1},
    "dqn": COPIED,
    "factored_bcq": FOLLOWING | {"smallest_share": 0.3, "logit_penalty": 0.01},
    "iql": FOLLOWING | {"expectile": 0.7, "inverse_temperature": 0.1, "largest_weight": 100.0},
    "one_step": FOLLOWING | {"smallest_share": 0.3},
    "outcome": {"gamma": 0.99},
}


def make_settings(algorithm: str = "cql", **changes: Any) -> TrainingSettings:
    """Settings of a short run of a learner."""
    return parse_settings(COMMON | OWN.get(algorithm, {}) | changes | {"algorithm": algorithm})


def make_score(value: float, half: float = 1.0, **changes: Any) -> Score:
    """A validation score with the interval `value` plus and minus `half`; the original metric says the opposite."""
    facts = {"softening": "greedy", "ess": 50.0, "passes_gates": True, "gates": [], "n_episodes": 7}
    published = {"published_fqe": -value, "published_wis": 0.0, "published_ess": 1.0}
    bounds = {"fqe": value, "fqe_lower": value - half, "fqe_upper": value + half}
    return Score(**(facts | published | bounds | changes))


SETTINGS = make_settings()
RUNTIME = RuntimeSettings(device="cpu", threads=1)


def make_jobs(replay: Path, out: Path, scorer: Scorer, *alphas: float) -> list[Job]:
    """Jobs of one short run for each alpha."""
    opened = open_replay(replay)
    return [
        Job(
            runs=[Run(SETTINGS.model_copy(update={"alpha": alpha}), out / f"alpha{alpha}")],
            checkpoints=out / f"checkpoints{alpha}",
            replay=opened,
            reward_variants=["sparse"],
            runtime=RUNTIME,
            scorer=scorer,
        )
        for alpha in alphas
    ]
