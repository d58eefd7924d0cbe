"""What is published of a build and of a training run: closed documents, made from the private records."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sepsis_cql.common.privacy import (
    SMALL,
    SMALLEST_CELL,
    RoundedCount,
    round_count,
    round_number,
    round_part,
)
from sepsis_cql.common.strict import Record
from sepsis_cql.publishing.guard.fields import (
    Commit,
    Number,
    Release,
    Sha256,
    Version,
    Whole,
    check_setting,
    round_numbers,
)
from sepsis_cql.publishing.guard.wording import publishing_settings
from sepsis_cql.replay.records import DoseGrid, Provenance, Source
from sepsis_cql.replay.report.counts import BuildReport
from sepsis_cql.replay.rows.cohort import cohort_criteria
from sepsis_cql.replay.settings import ReplaySettings
from sepsis_cql.training.learners.registry import parse_settings
from sepsis_cql.training.records import RunRecord

CPU_CAPABILITIES = ("DEFAULT", "AVX2", "AVX512")
Period = Annotated[str, Field(pattern=r"^20[0-9]{2} - 20[0-9]{2}$")]  # an anchor_year_group
Edges = Annotated[list[Number], Field(min_length=3, max_length=3)]
RowOfFive = Annotated[list[RoundedCount], Field(min_length=5, max_length=5)]


def _of_the_learner(values: dict[str, Any]) -> dict[str, Any]:
    if json.dumps(parse_settings(values).model_dump(mode="json")) != json.dumps(values):  # 3.0 is not 3
        raise ValueError("not the settings of a learner")
    return check_setting(values)


def _is_known_loss(name: str) -> str:
    if name not in publishing_settings().losses:
        raise ValueError("not a loss that is published")
    return name


Loss = Annotated[str, AfterValidator(_is_known_loss)]


class PublishedSource(Source):
    """Which tables, by the names the card knows."""

    name: Literal["mimic-iv", "mimic-iv-demo", "synthetic"]
    version: Release | None


class PublishedSimulation(Record):
    """What the simulated tables were made with."""

    patients: Whole
    seed: Whole
    version: Release


class PublishedCohort(Record):
    """Sizes of the cohort, rounded to tens."""

    stays: RoundedCount
    septic_stays: RoundedCount
    episodes: RoundedCount
    transitions: RoundedCount
    deaths: RoundedCount

    @model_validator(mode="after")
    def _leaves_enough_survivors(self) -> Self:
        episodes, deaths = self.episodes, self.deaths
        if isinstance(episodes, int) and isinstance(deaths, int) and 0 < deaths > episodes - SMALLEST_CELL:
            raise ValueError("few survivors")
        return self


class AttritionRow(Record):
    """Stays that one criterion removed, and those that remained."""

    criterion: str = Field(max_length=200)
    removed: RoundedCount
    remaining: RoundedCount


class PublishedSplits(Record):
    """Patients of each split."""

    train: RoundedCount
    validation: RoundedCount
    test: RoundedCount


class PublishedEdges(DoseGrid):
    """The dose bins."""

    vasopressor_edges: Edges
    fluid_edges: Edges


class PublishedGrid(PublishedEdges):
    """The dose bins, and the training steps by vasopressor bin (rows) and fluid bin (columns)."""

    counts: list[RowOfFive] = Field(min_length=5, max_length=5)


class PublishedBuild(Record):
    """Contents of the published `build_report.json`."""

    source: PublishedSource
    synthetic: PublishedSimulation | None
    fingerprint: Sha256
    settings: Annotated[ReplaySettings, AfterValidator(lambda value: _check_settings(value))]
    cohort: PublishedCohort
    attrition: list[AttritionRow]
    splits: PublishedSplits
    action_grid: PublishedGrid
    warnings: Annotated[int, Field(ge=0, le=200)]
    periods: (
        dict[Literal["train", "validation", "test"], Annotated[list[Period], Field(max_length=20)]] | None
    ) = Field(default=None, exclude_if=lambda periods: periods is None)

    @model_validator(mode="after")
    def _names_the_criteria(self) -> Self:
        expected = [criterion.description for criterion in cohort_criteria(self.settings)]
        if [row.criterion for row in self.attrition] != expected:
            raise ValueError("other criteria than those of the settings")
        if self.synthetic is not None and self.synthetic.version != self.source.version:
            raise ValueError("another simulator than that of the tables")
        return self


class PublishedData(Record):
    """The training split a run learned from."""

    source: PublishedSource
    replay_fingerprint: Sha256
    n_transitions: RoundedCount
    n_stays: RoundedCount


class PublishedRuntime(Record):
    """Facts of the machine that can change the last digits of a result."""

    device: Literal["cpu", "cuda", "mps"]
    cpu_capability: Literal["DEFAULT", "AVX2", "AVX512"]
    threads: Annotated[int, Field(ge=1, le=4096)]
    precision: Literal["fp32", "bf16"]
    compiled: bool
    torch: Version


class PublishedTraining(Record):
    """Contents of the published `training.json`."""

    settings: Annotated[dict[str, Any], AfterValidator(_of_the_learner)]
    data: PublishedData
    runtime: PublishedRuntime
    epochs: Annotated[int, Field(ge=0, lt=10_000)]
    global_step: Annotated[int, Field(ge=0, lt=10_000_000)]
    losses: dict[Loss, Number]
    weights_sha256: Sha256
    git_commit: Commit | None
    versions: dict[
        Literal["python", "sepsis-cql", "numpy", "safetensors", "torch", "transformers"], Version | None
    ]


def _check_settings(settings: ReplaySettings) -> ReplaySettings:
    check_setting(settings.model_dump(mode="json"))
    return settings


def reduce_build(report: BuildReport, provenance: Provenance) -> PublishedBuild:
    """Reduce a build's report and provenance to what may be published."""
    cohort, synthetic = report.cohort, provenance.synthetic
    deaths = round_part(cohort.deaths, cohort.episodes)
    values = {
        "source": report.source.model_dump(),
        "synthetic": synthetic and synthetic.model_dump(include={"patients", "seed", "version"}),
        "fingerprint": report.fingerprint,
        "settings": provenance.settings.model_dump(),
        "cohort": {
            **{
                name: round_count(getattr(cohort, name))
                for name in ("stays", "septic_stays", "episodes", "transitions")
            },
            "deaths": deaths,
        },
        "attrition": [
            {
                "criterion": row.description,
                "removed": round_count(row.stays_removed),
                "remaining": round_count(row.stays_remaining),
            }
            for row in report.attrition[1:]
        ],
        "splits": {name: round_count(split.patients) for name, split in report.splits.items()},
        "action_grid": {
            **round_numbers(report.action_grid.model_dump(exclude={"counts"})),
            "counts": [[round_count(count) for count in row] for row in report.action_grid.counts["train"]],
        },
        "warnings": len(report.warnings),
        "periods": report.periods,
    }
    return PublishedBuild.model_validate(values)


def reduce_training(record: RunRecord) -> PublishedTraining:
    """Reduce a run's record to what may be published."""
    data, runtime = record.data, record.runtime
    values = {
        **record.model_dump(
            mode="json",
            include={"settings", "epochs", "global_step", "weights_sha256", "git_commit", "versions"},
        ),
        "losses": {
            name: round_number(value)
            for name, value in record.losses.items()
            if name in publishing_settings().losses
        },
        "data": {
            "source": data.source.model_dump(),
            "replay_fingerprint": data.replay_fingerprint,
            "n_transitions": round_count(data.n_transitions),
            "n_stays": round_count(data.n_stays),
        },
        "runtime": {
            **runtime.model_dump(exclude={"device_name"}),
            "device": runtime.device.partition(":")[0],
            "cpu_capability": runtime.cpu_capability
            if runtime.cpu_capability in CPU_CAPABILITIES
            else "DEFAULT",
        },
    }
    return PublishedTraining.model_validate(values)


def describe_training_data(training: PublishedTraining) -> str:
    """Return the one sentence of config.json on what the weights were trained on."""
    data = training.data
    counts = [n if n == SMALL else f"about {n:,}" for n in (data.n_transitions, data.n_stays)]
    return (
        f"{data.source.name} {data.source.version or ''}".strip()
        + f", training split (replay {data.replay_fingerprint[:12]}): {counts[0]} transitions of {counts[1]} stays"
    )
