"""The record of a study: both choices from the same runs, the protocol's files from it, and nothing of few patients."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from sepsis_cql.commands.output import console
from sepsis_cql.commands.study import print_choices
from sepsis_cql.evaluation.record import TrueValue
from sepsis_cql.evaluation.report.study_figure import RULES, make_study_figures
from sepsis_cql.evaluation.study import Choices, RunTruth, Study, StudyRun, has_few_outcomes
from sepsis_cql.publishing.guard.study import VALUES, make_stage_files, reduce_study

from ..training.made_up import make_score, make_transitions

CONFIGURATIONS = [
    {"reward_variant": "sparse", "learning_rate": 0.0001, "alpha": alpha} for alpha in (1.0, 0.1, 0.05)
]


def make_run(configuration, seed, stages, claimed, value, *, episodes=400, ess=80.0):
    changes = {"published_fqe": claimed, "published_ess": 3.0, "n_episodes": episodes, "ess": ess, "epoch": 7}
    true = TrueValue(value=value, standard_error=0.1)
    score = make_score(value, **changes)
    return StudyRun(
        configuration=CONFIGURATIONS[configuration],
        seed=seed,
        stages=stages,
        score=score,
        truth=RunTruth(greedy=true, judged=true),
    )


def make_study(**changes):
    """Three configurations; the one that claims most is worth least."""
    runs = [
        make_run(0, 42, [1, 2], 9.0, 8.5, **changes),
        make_run(0, 7, [2], 9.5, 8.0, **changes),
        make_run(1, 42, [1], 12.0, 5.0, **changes),
        make_run(2, 42, [1], 30.0, -12.0, **changes),
        make_run(2, 1024, [], 20.0, -2.0, **changes),
    ]
    return Study(
        size="small",
        metric="fqe",
        top=1,
        seeds=[42, 7],
        runs=runs,
        configurations=[CONFIGURATIONS[0]],
        choices=Choices(sound=0, published=3, reference=4),
        n_failed=0,
        clinicians=TrueValue(value=6.0, standard_error=0.1),
    )


def test_the_files_of_the_protocol_have_the_published_fields():
    files = make_stage_files(reduce_study(make_study()))
    first, second, seeds = (
        files[f"evaluation/{name}.json"]
        for name in ("stage1_evaluation", "stage2_evaluation", "stage2_multiseed_validation")
    )
    assert first["n_total_configs"] == 3 and [row["best_fqe"] for row in first["rankings"]] == [
        9.0,
        12.0,
        30.0,
    ]
    assert first["top_configs"] == [{"reward_variant": "sparse", "learning_rate": 0.0001, "cql_alpha": 1.0}]
    assert [row["seed"] for row in second["rankings"]] == [42, 7]
    (result,) = seeds["results"]
    assert result["cql_alpha"] == 1.0 and result["fqe_values"] == [9.0, 9.5]
    assert (result["fqe_mean"], round(result["fqe_std"], 4)) == (9.25, 0.3536)
    assert first["val_n_episodes"] == seeds["n_episodes"] == 400


def test_reducing_twice_changes_nothing_and_few_patients_show_nothing():
    study = reduce_study(make_study())
    assert reduce_study(study) == study
    assert {run.score.published_wis for run in study.runs} == {None}  # their ESS is below 10
    hidden = reduce_study(make_study(episodes=7)).runs[0].score
    assert (hidden.n_episodes, hidden.fqe, hidden.fqe_lower, hidden.ess) == ("<10", None, None, 0.0)
    assert make_stage_files(reduce_study(make_study(episodes=7)))[
        "evaluation/stage2_multiseed_validation.json"
    ]


@pytest.mark.parametrize("changes", [{"has_few_outcomes": True}, {"clinicians": None}])
def test_where_few_patients_died_or_survived_no_file_of_the_study_holds_a_value(changes):
    study = reduce_study(make_study().model_copy(update=changes))
    assert reduce_study(study) == study
    values = {value for run in study.runs for name, value in run.score if name in VALUES}
    assert values == {None} and study.runs[0].score.published_fqe == 9.0  # the network's own claim
    files = str(make_stage_files(study))
    assert not any(
        str(score) in files for run in make_study().runs for score in (run.score.fqe, run.score.fqe_lower)
    )
    known = make_study().model_copy(update={"clinicians": None, "has_few_outcomes": False})
    assert reduce_study(known).runs[0].score.fqe == 8.5


@pytest.mark.parametrize(
    ("died", "few"), [(0, True), (9, True), (10, False), (20, False), (21, True), (30, True)]
)
def test_few_outcomes_are_counted_by_patients(died, few):
    data = make_transitions(30)
    final = np.where(np.arange(30) < died, -15.0, 15.0)
    rewards = data.rewards.copy()
    rewards[data.terminals] = final
    patients = np.repeat(np.arange(30), np.diff(np.r_[data.episode_starts, len(data)]))
    assert has_few_outcomes(replace(data, rewards=rewards, subject_id=patients)) is few
    assert has_few_outcomes(
        replace(data, rewards=rewards, subject_id=patients // 10)
    )  # ten stays of one patient


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values["choices"].update(sound=3),
        lambda values: values["choices"].update(published=9),
        lambda values: values["runs"][0]["configuration"].update(note=3),
        lambda values: values["runs"][0]["configuration"].update(alpha="John Smith"),
        lambda values: values["configurations"].append({"alpha": 0.5}),
        lambda values: values["runs"][1]["score"].update(n_episodes=410),
        lambda values: values["runs"][1]["score"].update(gates=["patient 10012345"]),
    ],
)
def test_a_record_that_contradicts_itself_or_says_more_is_no_published_study(change):
    study = reduce_study(make_study())
    values = study.model_dump(mode="json")
    change(values)
    with pytest.raises(ValidationError):
        type(study).model_validate(values)


def test_the_table_of_choices_fits_80_columns_and_marks_what_cannot_be(monkeypatch):
    monkeypatch.setattr(console, "_width", 80)
    with console.capture() as captured:
        print_choices(make_study(), 15.0)
    text = captured.get()
    assert max(map(len, text.splitlines())) <= 80
    assert "30.00" in text and "unattainable" in text and "12.00 (" not in text
    assert "true value, as judged" in text
    study = make_study()
    unknown = RunTruth(greedy=None, judged=None)
    runs = [run.model_copy(update={"truth": unknown}) for run in study.runs]
    with console.capture() as captured:
        print_choices(study.model_copy(update={"runs": runs, "clinicians": None}), 15.0)
    assert "true value" not in captured.get()


def test_the_figure_ranks_the_runs_by_both_rules_against_the_truth():
    ((name, figure),) = make_study_figures(make_study())
    published, sound = figure.axes
    places = [axes.lines[0].get_xdata().tolist() for axes in (published, sound)]
    assert (name, places) == ("selection", [[5, 4, 3, 1, 2], [1, 2, 3, 5, 4]])
    assert published.lines[0].get_ydata().tolist() == [8.5, 8.0, 5.0, -12.0, -2.0]
    assert figure.get_supxlabel() == "SIMULATED PATIENTS, validation split, 5 runs. Research only."
    assert "nearer to it is the sound rule" in " ".join(figure.get_suptitle().split())
    without = make_study().runs[0].model_copy(update={"score": make_score(-1.0, published_fqe=None)})
    assert [rank(without) < rank(make_run(0, 7, [2], -3.0, -1.0)) for rank in RULES.values()] == [True, False]
    without = make_study().model_copy(update={"clinicians": None})
    assert list(make_study_figures(without)) == []
