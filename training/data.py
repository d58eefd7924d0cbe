"""What a run learns from: the training split, its statistics and where both come from."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig
from sepsis_cql.errors import ReplayError
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.replay.transitions import Transitions, load_transitions
from sepsis_cql.storage import read_json
from sepsis_cql.training.settings import TrainingSettings


@dataclass(frozen=True)
class TrainingData:
    """The training split of one replay.

    Attributes:
        transitions: of the training split.
        rewards: (n,) float64 for each reward variant that was asked for.
        statistics: contents of statistics.json; None where the states are already normalised.
        source: name and version of the data set.
        fingerprint: of the replay directory; None for a single file.
        sha256: of the arrays themselves.
    """

    transitions: Transitions
    rewards: dict[str, np.ndarray]
    statistics: dict[str, Any] | None
    source: dict[str, str]
    fingerprint: str | None
    sha256: str

    @property
    def description(self) -> str:
        """One sentence on what weights trained on this data were trained on."""
        name = f"{self.source['name']} {self.source['version']}".strip()
        replay = f" (replay {self.fingerprint[:12]})" if self.fingerprint else ""
        return (
            f"{name}, training split{replay}: {len(self.transitions):,} transitions of "
            f"{self.transitions.n_episodes:,} stays"
        )

    def facts(self) -> dict[str, Any]:
        """What a run's record says about its data."""
        return {
            "source": self.source,
            "replay_fingerprint": self.fingerprint,
            "sha256": self.sha256,
            "n_transitions": len(self.transitions),
            "n_stays": self.transitions.n_episodes,
        }


def load_training_data(replay: Path, reward_variants: Sequence[str]) -> TrainingData:
    """Read the training split of a replay directory, or a file of the published replay format.

    Raises:
        ReplayError: the replay is missing or inconsistent, or holds other states than the model takes.
    """
    splits = {name: load_transitions(replay, "train", name) for name in sorted(set(reward_variants))}
    transitions = next(iter(splits.values()))
    if odd := sorted(set(transitions.state_names) ^ set(SepsisCQLConfig().state_names)):
        raise ReplayError(
            f"{replay}: its {len(transitions.state_names)} states differ from the model's inputs by {odd[:5]} "
            f"({len(odd)} in all). Rebuild it with `sepsis-cql build`, or name its columns as the model does."
        )
    rewards = {name: split.rewards for name, split in splits.items()}
    statistics, source, fingerprint = None, {"name": replay.name, "version": ""}, None
    if not transitions.normalised:
        expected = "a directory written by `sepsis-cql build`"
        statistics = read_json(replay / "statistics.json", expected=expected)
        provenance = read_json(replay / "provenance.json", expected=expected)
        source, fingerprint = provenance["source"], provenance["fingerprint"]
    return TrainingData(
        transitions, rewards, statistics, source, fingerprint, sha256_transitions(transitions, rewards)
    )


def sha256_transitions(transitions: Transitions, rewards: dict[str, np.ndarray]) -> str:
    """Hexadecimal SHA-256 of everything a learner sees."""
    digest = hashlib.sha256(",".join(transitions.state_names).encode())
    arrays = (transitions.states, transitions.actions, transitions.next_states, transitions.terminals)
    for array in (*arrays, *(rewards[name] for name in sorted(rewards))):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def new_model(data: TrainingData, settings: TrainingSettings) -> SepsisCQLModel:
    """A model with the initial weights of the run's seed and the normaliser of the training split."""
    facts: dict[str, Any] = {"state_names": list(data.transitions.state_names)}
    if data.statistics is not None:
        facts |= data.statistics["action_grid"]
        facts["normalisation"] = f"training split of replay {data.fingerprint}"
    config = SepsisCQLConfig(
        hidden_sizes=settings.hidden_sizes,
        gamma=settings.gamma,
        alpha=settings.alpha,
        reward_variant=settings.reward_variant,
        training_data=data.description,
        **facts,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = SepsisCQLModel(config)
    if data.statistics is not None:
        model.set_normaliser(data.statistics["normaliser"])
    return model.eval()
