"""The study as a record: every run of the protocol, what each rule of selection chose, and the true values.

True values are made after the choice is frozen and read by nothing that chooses.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from sepsis_cql.checkpoints.hub_package import load_package
from sepsis_cql.common.privacy import SMALLEST_CELL
from sepsis_cql.common.storage import write_json
from sepsis_cql.common.strict import Record, read_record
from sepsis_cql.evaluation.policies.softened import list_versions
from sepsis_cql.evaluation.record import TrueValue
from sepsis_cql.evaluation.truth import play
from sepsis_cql.evaluation.validation_score import PolicyScorer
from sepsis_cql.replay.transitions import Transitions
from sepsis_cql.synthetic.truth import Truth
from sepsis_cql.training.records import Metric, Score
from sepsis_cql.training.sweep.protocol import Sweep
from sepsis_cql.training.sweep.ranking import ScoredRun

RECORD = "study.json"
TRUTH = "truth.json"  # in the directory of a run, so that a study that is cut off plays no policy twice
Stage = Literal[1, 2]


class RunTruth(Record):
    """True values of one run, None outside the simulator.

    Attributes:
        greedy: of the network as it acts.
        judged: of the version by which validation judged it.
    """

    greedy: TrueValue | None = None
    judged: TrueValue | None = None


class StudyRun(Record):
    """One run of the study.

    Attributes:
        configuration: its values for the settings that the grid varies.
        seed: of the run.
        stages: of the protocol it belongs to; none for the reference alone.
        score: on validation, at its last epoch.
        truth: its true values.
    """

    configuration: dict[str, Any]
    seed: int
    stages: list[Stage]
    score: Score
    truth: RunTruth = Field(default_factory=RunTruth)


class Choices(Record):
    """Positions in the list of runs.

    Attributes:
        sound: what the study chose, among the runs of stage 2.
        published: what the largest mean max-Q would have chosen from the same runs.
        reference: the published card's own configuration; None where it failed or was not asked for.
    """

    sound: int = Field(ge=0)
    published: int = Field(ge=0)
    reference: int | None = None


class Study(Record):
    """Contents of `study.json`.

    Attributes:
        size: name of the study's settings.
        metric: that ranked.
        top, seeds: of the protocol.
        runs: best first by the metric.
        configurations: of stage 2, best first.
        choices: by each rule.
        n_failed: runs that failed.
        clinicians: their true value.
        has_few_outcomes: whether fewer than ten patients that scored the runs died, or survived, so that no value is
            published; None in the record of an older version.
    """

    size: str
    metric: Metric
    top: int
    seeds: list[int]
    runs: list[StudyRun] = Field(min_length=1)
    configurations: list[dict[str, Any]]
    choices: Choices
    n_failed: int
    clinicians: TrueValue | None
    has_few_outcomes: bool | None = Field(default=None, exclude_if=lambda few: few is None)


def describe_study(
    sweep: Sweep,
    size: str,
    stages: Sequence[Sequence[ScoredRun]],
    reference: ScoredRun | None,
    truth_of: Callable[[ScoredRun], RunTruth],
    clinicians: TrueValue | None,
    scored: Transitions,
) -> Study:
    """Describe a finished sweep and what each rule chose from its runs.

    Args:
        sweep: whose choice is frozen.
        size: name of the study's settings.
        stages: the runs of stage 1 and of stage 2.
        reference: a run that was trained besides.
        truth_of: returns the true values of a run.
        clinicians: their true value; None for patients.
        scored: the episodes that the runs were scored on.
    """
    every = {run.name: run for part in (*stages, [reference] if reference else []) for run in part}
    ranking = sweep.rank(list(every.values()))
    names = [run.name for run in ranking.ordered()]
    second = sweep.rank(stages[1])
    members: list[tuple[Stage, set[str]]] = [
        (1, {run.name for run in stages[0]}),
        (2, {run.name for run in stages[1]}),
    ]
    return Study(
        size=size,
        metric=ranking.metric,
        top=sweep.settings.top,
        seeds=sweep.settings.stage2_seeds,
        runs=[
            StudyRun(
                configuration=ranking.configuration(every[name]),
                seed=every[name].settings.seed,
                stages=[number for number, runs in members if name in runs],
                score=every[name].best(ranking.metric),
                truth=truth_of(every[name]),
            )
            for name in names
        ],
        configurations=[second.configuration(group[0]) for group in second.configurations()],
        choices=Choices(
            sound=names.index(second.chosen().name),
            published=names.index(sweep.rank(list(every.values()), "published").chosen().name),
            reference=names.index(reference.name) if reference else None,
        ),
        n_failed=len(sweep.failures),
        clinicians=clinicians,
        has_few_outcomes=has_few_outcomes(scored),
    )


def has_few_outcomes(scored: Transitions) -> bool:
    """Whether fewer than ten patients died, or survived, which a mean return of theirs would give away."""
    survived = scored.rewards[scored.terminals] > 0
    patients = scored.subject_id[scored.terminals]
    groups = (patients[survived], patients[~survived])
    return min(len(np.unique(group)) for group in groups) < SMALLEST_CELL


def play_run(run: Path, score: Score, scorer: PolicyScorer, truth: Truth | None) -> RunTruth:
    """Return the true values of a run at its last epoch, kept in its directory; none for patients.

    Args:
        run: directory of the run.
        score: on validation, which names the version that was judged.
        scorer: of the sweep, whose estimate of the clinicians is part of a softened version.
        truth: the simulated ICU.
    """
    if truth is None:
        return RunTruth()
    file = run / TRUTH
    if file.exists():
        return read_record(RunTruth, file, expected="the true values of a run of the study")
    policy, rules = scorer.bind(load_package(run / "package")), scorer.settings
    versions = list_versions(policy, scorer.data.clinicians, rules)
    (judged,) = (version.policy for version in versions if version.softening == score.softening)
    greedy, _ = play(policy, truth, rules)
    found = RunTruth(greedy=greedy, judged=greedy if judged is policy else play(judged, truth, rules)[0])
    write_json(file, found.model_dump(mode="json"))
    return found


def load_study(directory: Path) -> Study:
    """Read the record of a study.

    Raises:
        SepsisCQLError: it is not one.
    """
    return read_record(Study, directory / RECORD, expected="the record `sepsis-cql reproduce` writes")
