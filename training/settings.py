"""What a training run is told: the hyper-parameters every learner has, and what it may use of the machine."""

from typing import Annotated, Literal

from pydantic import Field

from sepsis_cql.common.strict import Settings

Widths = list[Annotated[int, Field(ge=1, le=2**16)]]  # of hidden layers


class TrainingSettings(Settings):
    """Hyper-parameters of one run; each learner adds its own, `configs/cql.yaml` says what each means."""

    algorithm: str
    reward_variant: Literal["sparse", "sofa_shaped"] = "sparse"
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    batch_size: int = Field(ge=1)
    epochs: int = Field(ge=1)
    grad_clip: float = Field(gt=0)
    hidden_sizes: Widths = Field(min_length=1, max_length=64)
    seed: int = Field(ge=0, lt=2**31)
    checkpoint_epochs: int = Field(ge=1)
    keep_checkpoints: int = Field(ge=1)


class RuntimeSettings(Settings):
    """The device a run computes on, and how; `configs/runtime.*.yaml` hold the choice for each kind of device."""

    device: Literal["auto", "cpu", "cuda", "mps"]
    threads: int | None = Field(default=None, ge=1, le=4096)
    precision: Literal["fp32", "bf16"] = "fp32"
    runs_per_model: int = Field(default=1, ge=1)
    compiled: bool = False
