"""The learners by the name their YAML gives as `algorithm`; a new one is one file, one YAML and one line here."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, ValidationError

from sepsis_cql.common.errors import SettingsError
from sepsis_cql.common.strict import explain, merge, read_yaml
from sepsis_cql.training.learners.ai_clinician import AIClinician
from sepsis_cql.training.learners.base import Learner
from sepsis_cql.training.learners.bcq import BatchConstrained
from sepsis_cql.training.learners.behavior_cloning import BehaviorCloning
from sepsis_cql.training.learners.cql import ConservativeQLearning
from sepsis_cql.training.learners.double_cql import DoubleCQL
from sepsis_cql.training.learners.dqn import DeepQLearning
from sepsis_cql.training.learners.factored_bcq import FactoredBCQ
from sepsis_cql.training.learners.iql import ImplicitQLearning
from sepsis_cql.training.learners.one_step import OneStep
from sepsis_cql.training.learners.outcome import OutcomeRegression
from sepsis_cql.training.settings import TrainingSettings

LEARNERS: dict[str, type[Learner]] = {
    "ai_clinician": AIClinician,
    "bcq": BatchConstrained,
    "behavior_cloning": BehaviorCloning,
    "cql": ConservativeQLearning,
    "double_cql": DoubleCQL,
    "dqn": DeepQLearning,
    "factored_bcq": FactoredBCQ,
    "iql": ImplicitQLearning,
    "one_step": OneStep,
    "outcome": OutcomeRegression,
}


def load_training_settings(file: Path, changes: dict[str, Any] | None = None) -> TrainingSettings:
    """Read the settings of the learner that a YAML file names.

    Args:
        file: shipped or the user's.
        changes: values that replace those of the file.

    Raises:
        SettingsError: the file is absent, names no learner, or a field is unknown or invalid.
    """
    values = merge(read_yaml(file), changes or {})
    try:
        return parse_settings(values)
    except ValidationError as error:
        raise SettingsError(f"{file}: {explain(error)}") from error
    except ValueError as error:
        raise SettingsError(f"{file}: {error}") from error


def parse_settings(values: Any) -> TrainingSettings:
    """Validate settings by the model of the learner they name.

    Raises:
        ValueError: `algorithm` is not a learner, or a field is unknown or invalid.
    """
    if isinstance(values, TrainingSettings):
        return values
    algorithm = values.get("algorithm") if isinstance(values, dict) else None
    if not isinstance(algorithm, str) or algorithm not in LEARNERS:
        raise ValueError(f"algorithm: found {algorithm!r}, expected one of {sorted(LEARNERS)}.")
    return LEARNERS[algorithm].settings.model_validate(values, strict=False)


AnySettings = Annotated[SerializeAsAny[TrainingSettings], BeforeValidator(parse_settings)]
