"""What a run learns from: the training split, its statistics and where both come from."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sepsis_cql.checkpoints.original_pt import OF_OUTPUTS
from sepsis_cql.common.errors import ReplayError
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.replay.directory import Replay
from sepsis_cql.replay.records import Source, Statistics
from sepsis_cql.replay.settings import Features, ReplaySettings
from sepsis_cql.replay.transitions import Transitions
from sepsis_cql.training.learners.registry import LEARNERS
from sepsis_cql.training.records import DataFacts
from sepsis_cql.training.settings import TrainingSettings

HIGHEST_SOFA = 24


@dataclass(frozen=True)
class TrainingData:
    """The training split of one replay.

    Attributes:
        transitions: of the training split.
        rewards: (n,) float64 for each reward variant that was asked for.
        statistics: of the training split; None where the states are already normalized.
        source: tables the replay was built from.
        fingerprint: of the replay.
        sha256: of the arrays themselves.
        features: of a state.
        step_hours: length of a step.
        made_by: settings of the replay's rewards; None where they are not known.
    """

    transitions: Transitions
    rewards: dict[str, np.ndarray]
    statistics: Statistics | None
    source: Source
    fingerprint: str
    sha256: str
    features: Features
    step_hours: int
    made_by: ReplaySettings | None = None

    @property
    def description(self) -> str:
        """Return one sentence that says what weights trained on this data were trained on."""
        name = f"{self.source.name} {self.source.version or ''}".strip()
        return (
            f"{name}, training split (replay {self.fingerprint[:12]}): {len(self.transitions):,} transitions of "
            f"{self.transitions.n_episodes:,} stays"
        )

    def facts(self) -> DataFacts:
        """Return the description of the data for a run's record."""
        return DataFacts(
            source=self.source,
            replay_fingerprint=self.fingerprint,
            sha256=self.sha256,
            n_transitions=len(self.transitions),
            n_stays=self.transitions.n_episodes,
        )


def load_training_data(replay: Replay, reward_variants: Sequence[str]) -> TrainingData:
    """Read the training split of a replay with each of the rewards.

    Raises:
        ReplayError: the replay is missing or inconsistent, or its states are not those of its features.
    """
    made = replay.provenance
    features = load_shipped(Features, "features.yaml") if made is None else made.features
    splits = {name: replay.transitions("train", name) for name in sorted(set(reward_variants))}
    transitions = next(iter(splits.values()))
    if odd := sorted(set(transitions.state_names) ^ set(features.state_names)):
        raise ReplayError(
            f"{replay.path}: its {len(transitions.state_names)} states differ from the model's inputs by {odd[:5]} "
            f"({len(odd)} in all). Rebuild it with `sepsis-cql build`, or name its columns as the model does."
        )
    rewards = {name: split.rewards for name, split in splits.items()}
    return TrainingData(
        transitions,
        rewards,
        replay.statistics,
        replay.source,
        replay.fingerprint,
        sha256_transitions(transitions, rewards),
        features,
        load_shipped(ReplaySettings, "replay.yaml").step_hours if made is None else made.settings.step_hours,
        None if made is None else made.settings,
    )


def sha256_transitions(transitions: Transitions, rewards: dict[str, np.ndarray]) -> str:
    """Return the hexadecimal SHA-256 of everything a learner sees."""
    digest = hashlib.sha256(",".join(transitions.state_names).encode())
    arrays = (transitions.states, transitions.actions, transitions.next_states, transitions.terminals)
    for array in (*arrays, *(rewards[name] for name in sorted(rewards))):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def new_model(data: TrainingData, settings: TrainingSettings) -> SepsisCQLModel:
    """Return a model with the initial weights of the run's seed and the normalizer of the training split."""
    facts: dict[str, Any] = {"state_names": list(data.transitions.state_names)}
    facts["missing_flags"] = [name for name in facts["state_names"] if name.endswith("_missing")]
    if data.statistics is not None:
        facts |= data.statistics.action_grid.model_dump()
        facts["normalization"] = f"training split of replay {data.fingerprint}"
    config = SepsisCQLConfig(
        algorithm=settings.algorithm,
        **describe_outputs(settings),
        hidden_sizes=settings.hidden_sizes,
        gamma=getattr(settings, "gamma", None),
        alpha=getattr(settings, "alpha", None),
        reward_variant=settings.reward_variant,
        attainable_return=data.made_by and largest_return(data.made_by, settings.reward_variant),
        decision_interval_hours=data.step_hours,
        training_data=data.description,
        **facts,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = SepsisCQLModel(config)
    if data.statistics is not None:
        model.set_normalizer(data.statistics.normalizer.model_dump())
    return model.eval()


def largest_return(replay: ReplaySettings, reward_variant: str) -> float:
    """Return the largest absolute discounted return that a reward allows.

    Changes of SOFA from step to step add up to at most its range; where later ones count less, to no more, because the
    sum is then a weighted mean of such sums and of 0 (Abel's summation).
    """
    shaping = replay.sofa_weight * HIGHEST_SOFA if reward_variant == "sofa_shaped" else 0.0
    return replay.terminal_reward + shaping


def describe_outputs(settings: TrainingSettings) -> dict[str, Any]:
    """Return what the configuration of a package says of its outputs; what is as usual is left out."""
    learner = LEARNERS[settings.algorithm]
    said = {
        "outputs": learner.outputs,
        "factored": learner.factored,
        "hidden_units": learner.hidden_units,
        "smallest_share": getattr(settings, "smallest_share", None),
    }
    return {name: value for name, value in said.items() if name == "outputs" or value != OF_OUTPUTS[name]}


def new_networks(model: SepsisCQLModel, settings: TrainingSettings) -> list[nn.Sequential]:
    """Return the networks that a learner trains for a model, in its order: the package's own, and further ones."""
    networks = model.networks
    parts = LEARNERS[settings.algorithm].parts
    further = [name for name in parts if name not in networks]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed + 1)
        fresh = {name: SepsisCQLModel(model.config).net for name in further}
    return [(networks | fresh)[name] for name in parts]


def set_weights(model: SepsisCQLModel, settings: TrainingSettings, weights: Tensor) -> None:
    """Put the (parts * n_parameters,) weights of a learner's networks into those of the package."""
    for name, part in of_package(model, settings, weights).items():
        nn.utils.vector_to_parameters(part.cpu(), model.networks[name].parameters())


def of_package(model: SepsisCQLModel, settings: TrainingSettings, tensor: Tensor) -> dict[str, Tensor]:
    """Return the (n_parameters,) part of each network of the package, of weights or moments of all networks."""
    parts = LEARNERS[settings.algorithm].parts
    rows = tensor.view(len(parts), -1)
    return {name: rows[parts.index(name)] for name in model.networks}
