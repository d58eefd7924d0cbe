"""Calibration runs on every environment with known truth, and its numbers are what they are called."""

import numpy as np
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from sepsis_cql.commands.app import app
from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.estimators.episodes import pad_episodes
from sepsis_cql.evaluation.known_truth.calibrate import calibrate, open_environment
from sepsis_cql.evaluation.known_truth.record import load_calibration
from sepsis_cql.evaluation.known_truth.repetitions import resume
from sepsis_cql.evaluation.known_truth.settings import CalibrationSettings, CaseSettings
from sepsis_cql.evaluation.known_truth.summary import Outcome, count_share, rank, summarize
from sepsis_cql.evaluation.settings import EvaluationSettings

pytest.importorskip("icu_sepsis", reason="needs `pip install icu-sepsis==2.0.1`")

SMALL = {"training": 300, "scored": 300, "behavior": "known"}


def make_finding(name, truth, value, half, *, passes=True, endorsed=False):
    estimate = (value, value - half, value + half)
    difference = (value - 5, value - 5 - half, value - 5 + half)
    return Outcome(
        name=name,
        true_value=truth,
        estimates={"fqe_cross_fitted": estimate},
        differences=(difference, difference),
        ess=100.0,
        passes=passes,
        endorsed=endorsed,
        gates={"overlap": (0.1, True), "agreement": (3.0, endorsed)},
        praised=passes,
        stated_gamma=1.2,
        yardstick=2.0 if endorsed else None,
    )


def test_coverage_counts_the_intervals_that_hold_the_truth():
    found = (
        make_finding("a", 8.0, 8.5, 1.0, endorsed=True),
        make_finding("a", 8.0, 9.5, 1.0, passes=False),
        make_finding("a", 4.0, 4.5, 1.0, endorsed=True),
        make_finding("a", 4.0, float("nan"), 1.0, passes=False),
    )
    quality = summarize(found, clinicians=5.0)
    estimator = quality.estimators["fqe_cross_fitted"]
    assert estimator.coverage == 0.5  # what is undefined covers nothing
    assert estimator.coverage_where_gates_hold == 1.0
    assert estimator.undefined == 0.25
    assert estimator.bias == pytest.approx((0.5 + 1.5 + 0.5) / 3)
    assert estimator.rmse == pytest.approx(np.sqrt((0.25 + 2.25 + 0.25) / 3))
    assert estimator.mean_width == pytest.approx(2.0)
    shares = quality.passes_gates, quality.endorsed.value, quality.wrongly_endorsed.value
    assert shares == (0.5, 0.5, 0.25)
    assert quality.refused == {"agreement": 0.5}
    assert quality.true_gain == pytest.approx(1.0)
    hidden = quality.hidden
    assert (hidden.praised.value, hidden.wrongly_praised.value, hidden.stated.median) == (0.5, 0.25, 1.2)
    assert (hidden.yardstick.largest, hidden.wrongly_beyond_truth) == (2.0, None)
    beyond = [summarize(found, 5.0, strength).hidden.wrongly_beyond_truth.value for strength in (1.1, 1.3)]
    assert beyond == [0.25, 0.0]


def test_a_share_has_the_exact_interval():
    share = count_share(np.zeros(40, dtype=bool))  # upper end 1 - 0.025 ** (1 / 40)
    assert (share.value, share.lower) == (0.0, 0.0)
    assert share.upper == pytest.approx(0.0881, abs=1e-4)


def test_ranking_is_of_the_policies_of_each_repetition():
    reversed_order = [make_finding("a", 8.0, 1.0, 1), make_finding("b", 6.0, 2.0, 1)]
    same_order = [make_finding("a", 8.0, 9.0, 1), make_finding("b", 6.0, 2.0, 1)]
    ranking = rank([reversed_order, same_order])["fqe_cross_fitted"]
    assert (ranking.spearman, ranking.regret) == (0.0, 1.0)


@pytest.fixture(scope="module")
def evaluation():
    return load_shipped(EvaluationSettings, "evaluation.yaml", {"fqe": {"refits": 50}})


def settings_with(case, **changes):
    changed = {
        "repetitions": 2,
        "resamples": 50,
        "refits": 50,
        "truth_episodes": 1500,
        "cases": {"small": case},
    }
    return load_shipped(CalibrationSettings, "calibration.yaml", changed | changes)


@pytest.mark.parametrize(
    ("environment", "policies"),
    [
        ("icu-sepsis", {"optimal": [1.0], "greedy": [1.0]}),
        ("synthetic", {"network": [20.0], "greedy": [1.0]}),
        ("sepsis-simulator", {"optimal": [20.0], "greedy": [1.0]}),
    ],
)
def test_recommended_estimates_lie_about_the_truth(environment, policies, evaluation, tmp_path):
    case = {"environment": environment, **SMALL, "policies": policies}
    found = calibrate("small", settings_with(case), evaluation, tmp_path, jobs=1)
    nearest, greedy = found.policies
    quality = nearest.estimators[found.recommended]
    assert nearest.true_gain > -0.2
    assert abs(quality.bias) < 3 * quality.mean_width / 3.92
    assert quality.coverage > 0
    assert greedy.passes_gates == 0 and greedy.endorsed.value == 0


@pytest.mark.parametrize(
    "change",
    [
        {"environment": "icu-sepsis", "sharpness": 3.0},
        {"environment": "icu-sepsis", "behavior": "estimated", "hidden_pull": 0.5, "hidden_hazard": 0.03},
        {"environment": "icu-sepsis", "toxicity": 0.1},
        {"environment": "sepsis-simulator", "behavior": "estimated", "withheld": ["pressure"]},
        {"environment": "sepsis-simulator"},
        {"environment": "sepsis-simulator", "withheld": ["glucose", "diabetes"], "blind": True},
    ],
    ids=["deterministic", "hidden", "toxic", "pressure", "simulator", "blind"],
)
def test_clinicians_reach_their_exact_value(change, evaluation):
    environment = open_environment(
        CaseSettings(**(SMALL | change)), settings_with(SMALL | change), evaluation
    )
    returns = pad_episodes(environment.sample(8000, 3), evaluation.gamma).returns
    error = returns.std() / np.sqrt(len(returns))
    assert abs(returns.mean() - environment.clinicians_value) < 3 * error


def test_the_true_strength_of_hidden_confounding(evaluation):
    """Half of the patients are pulled up and half down: between the halves odds differ by at most exp(2 x 2 x pull)."""
    found = {}
    for name, change in {
        "weak": {"environment": "icu-sepsis", "hidden_pull": 0.2, "hidden_hazard": 0.03},
        "strong": {"environment": "icu-sepsis", "hidden_pull": 0.8, "hidden_hazard": 0.03},
        "seen": {"environment": "sepsis-simulator", "withheld": ["glucose", "diabetes"]},
    }.items():
        case = SMALL | change | {"behavior": "estimated"}
        found[name] = open_environment(CaseSettings(**case), settings_with(case), evaluation).confounding()
    weak, strong, seen = found["weak"], found["strong"], found["seen"]
    assert 1.1 < weak.usual_odds < weak.odds < np.exp(0.8)
    assert 1.3 < strong.usual_odds < strong.odds < np.exp(3.2)
    assert weak.usual_weights > weak.usual_odds
    assert 1.2 < seen.usual_odds < seen.odds / 2


def test_doses_without_effect_make_all_policies_equal_and_harm_makes_never_given_doses_worse(evaluation):
    policies = {"optimal": [0.5, -0.5], "never given": [0.02]}
    gains = {}
    for name, change in {"null": {"without_effect": True}, "fatal": {"harm": 1.0}}.items():
        case = CaseSettings(environment="icu-sepsis", **SMALL, policies=policies, **change)
        environment = open_environment(case, settings_with(case.model_dump()), evaluation)
        targets = environment.targets(environment.sample(100, 0), environment.clinicians)
        gains[name] = [target.true_value - environment.clinicians_value for target in targets]
    assert np.allclose(gains["null"], 0, atol=1e-6)
    good, harmful, risky = gains["fatal"]
    assert good > 0.5 and harmful < -0.5 and risky < -2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"behavior": "known", "hidden_pull": 0.5}, "expected behavior: estimated"),
        ({"environment": "synthetic", "harm": 0.5}, "harm: of icu-sepsis only"),
        (
            {"environment": "sepsis-simulator", "blind": True, "withheld": ["lactate"]},
            "withheld: found ..lactate",
        ),
    ],
)
def test_cases_that_cannot_be_are_refused(change, named):
    with pytest.raises(ValidationError, match=named):
        CaseSettings(**({"environment": "icu-sepsis", **SMALL} | change))


@pytest.mark.parametrize(
    "broken", ['{"repetition": 2, "out', '{"repetition": 1e400, "outcomes": []}', "[" * 100_000]
)
def test_repetitions_of_a_stopped_run_are_kept_and_a_broken_line_is_made_again(tmp_path, broken):
    file, made = tmp_path / "case.repetitions.jsonl", []

    def run(numbers):
        for number in numbers:
            made.append(number)
            yield number, [make_finding("a", 8.0, float("nan") if number == 1 else 8.5, 1.0)]

    assert len(list(resume(file, "these", 3, run))[-1]) == 3
    file.write_text("\n".join([*file.read_text().splitlines()[:-1], broken]))
    made.clear()
    found = list(resume(file, "these", 4, run))[-1]
    assert made == [2, 3]
    assert np.isnan(found[1][0].estimates["fqe_cross_fitted"][0]) and len(found) == 4
    with pytest.raises(EvaluationError, match="other settings or other code"):
        list(resume(file, "others", 4, run))


def test_the_command_writes_a_record_that_names_its_commit(tmp_path):
    out = tmp_path / "out"
    arguments = ["--case", "icu-sepsis-300", "--out", str(out), "--jobs", "2"]
    few = ["repetitions=2", "resamples=50", "refits=20"]
    result = CliRunner().invoke(
        app, ["calibrate", *arguments, *(part for one in few for part in ("--set", f"calibration.{one}"))]
    )
    assert result.exit_code == 0, result.output
    record = load_calibration(out / "icu-sepsis-300.json")
    assert (record.repetitions, len(record.policies)) == (2, 2)
    assert record.commit is None or len(record.commit) >= 40


def test_unknown_case_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["calibrate", "--case", "nowhere", "--out", str(tmp_path / "out")])
    assert result.exit_code != 0
    assert "nowhere" in str(result.exception)
