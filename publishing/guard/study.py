"""What is published of a study: every run, closed field by field, and the protocol's files that follow from it."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sepsis_cql.common.privacy import SMALL, SMALLEST_CELL, RoundedCount, floor_size, round_count
from sepsis_cql.evaluation.study import Choices, Stage, Study, StudyRun
from sepsis_cql.publishing.guard.closing import Bounds, closed
from sepsis_cql.publishing.guard.evaluation import GATES, Softening
from sepsis_cql.publishing.guard.fields import check_setting, round_numbers
from sepsis_cql.training.records import Score
from sepsis_cql.training.sweep.documents import RankedRun, multiseed_document, stage_document

FOLDER = "evaluation"
VALUES = ("fqe", "fqe_lower", "fqe_upper", "published_wis")  # that rest on outcomes
MULTISEED = f"{FOLDER}/stage2_multiseed_validation.json"
GateName = Annotated[str, Field(pattern=f"^({GATES})$")]
Seed = Annotated[int, Field(ge=0, lt=1_000_000)]


def _are_settings(values: dict[str, Any]) -> dict[str, Any]:
    if len(values) > 8 or not all(name.replace("_", "").isalpha() and len(name) < 40 for name in values):
        raise ValueError("not the settings of a grid")
    return dict(check_setting(values))


Configuration = Annotated[dict[str, Any], AfterValidator(_are_settings)]


Index = Annotated[int, Field(ge=0, lt=500)]
BOUNDS: Bounds = {
    Score: {
        "epoch": Annotated[int, Field(ge=0, lt=10_000)],
        "softening": Softening,
        **dict.fromkeys(VALUES, float | None),
        "gates": Annotated[list[GateName], Field(max_length=30)],
        "n_episodes": RoundedCount,
    },
    StudyRun: {
        "configuration": Configuration,
        "seed": Seed,
        "stages": Annotated[list[Stage], Field(max_length=2)],
    },
    Choices: {"sound": Index, "published": Index, "reference": Index | None},
    Study: {
        "size": Literal["small", "published", "own"],
        "top": Annotated[int, Field(ge=1, lt=1000)],
        "seeds": Annotated[list[Seed], Field(max_length=32)],
        "runs": Annotated[list[StudyRun], Field(min_length=1, max_length=500)],
        "configurations": Annotated[list[Configuration], Field(max_length=100)],
        "n_failed": Annotated[int, Field(ge=0, lt=1000)],
    },
}


@closed(BOUNDS)
class PublishedStudy(Study):
    """Contents of the published `study.json`; what rests on fewer than ten episodes is hidden."""

    @model_validator(mode="after")
    def _names_its_own_runs(self) -> Self:
        choices: Choices = self.choices
        for index in (choices.sound, choices.published, choices.reference or 0):
            if index >= len(self.runs):
                raise ValueError("a choice that is none of the runs")
        if any(run.stages != sorted(set(run.stages)) for run in self.runs):
            raise ValueError("stages that are not each named once, in order")
        if 2 not in self.runs[choices.sound].stages:
            raise ValueError("a choice that stage 2 did not train")
        fields = [sorted(configuration) for configuration in self.configurations]
        if any(sorted(run.configuration) not in fields for run in self.runs):
            raise ValueError("a run with other settings than those of the grid")
        groups = [run.configuration for run in self.runs if 2 in run.stages]
        if len({run.score.n_episodes for run in self.runs}) != 1:
            raise ValueError("runs scored on other episodes")
        if any(configuration not in groups for configuration in self.configurations) or any(
            group not in self.configurations for group in groups
        ):
            raise ValueError("other configurations than those of its runs")
        return self


def reduce_study(study: Study) -> PublishedStudy:
    """Reduce a study to what may be published; reducing twice changes nothing.

    Values of patients are hidden where few of them died, or survived, as those of the test split are; also where the
    record does not say so.
    """
    values = round_numbers(study.model_dump(mode="json"))
    is_hidden = study.clinicians is None if study.has_few_outcomes is None else study.has_few_outcomes
    values["size"] = study.size if study.size in ("small", "published") else "own"
    for run in values["runs"]:
        run["score"] = _reduce_score(run["score"]) | (dict.fromkeys(VALUES) if is_hidden else {})
    return PublishedStudy.model_validate(values)


def make_stage_files(study: Study) -> Mapping[str, dict[str, Any]]:
    """Return the protocol's three files by path."""
    metric = study.metric
    first, second = ([run for run in study.runs if stage in run.stages] for stage in (1, 2))
    stages = ((1, first, [run.configuration for run in first]), (2, second, study.configurations))
    groups = [[run for run in second if run.configuration == one] for one in study.configurations]
    return {
        **{
            f"{FOLDER}/stage{number}_evaluation.json": stage_document(
                number, metric, _ranked(runs), configurations, top=study.top
            )
            for number, runs, configurations in stages
        },
        MULTISEED: multiseed_document(metric, [_ranked(group) for group in groups], study.seeds),
    }


def _ranked(runs: Sequence[StudyRun]) -> list[RankedRun]:
    return [RankedRun(run.configuration, run.seed, run.score) for run in runs]


def _reduce_score(score: dict[str, Any]) -> dict[str, Any]:
    episodes = round_count(score["n_episodes"])
    size = floor_size(score["ess"])
    published = None if score["published_ess"] is None else floor_size(score["published_ess"])
    hidden: dict[str, Any] = dict.fromkeys(VALUES) if episodes == SMALL else {}
    if (published or 0) < SMALLEST_CELL:
        hidden["published_wis"] = None
    if episodes == SMALL:
        size, published = 0.0, None if published is None else 0.0
    return score | hidden | {"n_episodes": episodes, "ess": size, "published_ess": published}
