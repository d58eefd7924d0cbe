"""Calibration runs on both environments with known truth, and its numbers are what they are called."""

import numpy as np
import pytest
from typer.testing import CliRunner

from sepsis_cql.commands.app import app
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.known_truth.calibrate import (
    CalibrationSettings,
    Outcome,
    calibrate,
    rank,
    summarize,
)
from sepsis_cql.evaluation.settings import EvaluationSettings

pytest.importorskip("icu_sepsis", reason="needs `pip install icu-sepsis==2.0.1`")


def make_finding(name, truth, value, half, *, passes=True, endorsed=False):
    estimate = (value, value - half, value + half)
    return Outcome(
        name=name,
        true_value=truth,
        estimates={"fqe_cross_fitted": estimate},
        difference=(value - 5, value - 5 - half, value - 5 + half),
        ess=100.0,
        passes=passes,
        endorsed=endorsed,
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
    assert (quality.passes_gates, quality.endorsed, quality.wrongly_endorsed) == (0.5, 0.5, 0.25)


def test_ranking_is_of_the_policies_of_each_repetition():
    reversed_order = [make_finding("a", 8.0, 1.0, 1), make_finding("b", 6.0, 2.0, 1)]
    same_order = [make_finding("a", 8.0, 9.0, 1), make_finding("b", 6.0, 2.0, 1)]
    ranking = rank([reversed_order, same_order])["fqe_cross_fitted"]
    assert (ranking.spearman, ranking.regret) == (0.0, 1.0)


@pytest.mark.parametrize("environment", ["icu-sepsis", "synthetic"])
def test_recommended_estimates_lie_about_the_truth(environment):
    case = {"environment": environment, "training": 300, "scored": 300, "behavior": "known"}
    changes = {
        "repetitions": 3,
        "resamples": 50,
        "truth_episodes": 4000,
        "cases": {"small": case},
    }
    settings = load_shipped(CalibrationSettings, "calibration.yaml", changes)
    evaluation = load_shipped(EvaluationSettings, "evaluation.yaml", {"fqe": {"refits": 50}})
    found = calibrate("small", settings, evaluation, jobs=1)
    nearest = found.policies[0]  # the policy most like the clinicians
    quality = nearest.estimators[found.recommended]
    assert nearest.true_value > found.clinicians_value - 0.2
    assert abs(quality.bias) < 3 * quality.mean_width / 3.92
    assert quality.coverage > 0
    greedy = next(policy for policy in found.policies if policy.name.endswith("greedy"))
    assert greedy.passes_gates == 0 and greedy.endorsed == 0


def test_unknown_case_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["calibrate", "--case", "nowhere", "--out", str(tmp_path / "out")])
    assert result.exit_code != 0
    assert "nowhere" in str(result.exception)
