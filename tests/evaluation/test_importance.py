import numpy as np
import pytest

from sepsis_cql.evaluation.estimators import importance
from sepsis_cql.evaluation.estimators.episodes import Episodes
from sepsis_cql.evaluation.estimators.weights import effective_sample_size, summarize_weights

NAMES = {"IS": "is", "WIS": "wis", "PDIS": "pdis", "PDWIS": "pdwis", "DR": "dr", "WDR": "wdr"}


@pytest.fixture(params=["A_offpolicy", "A_onpolicy"])
def case(request, golden):
    inputs, expected = golden["inputs"]["A"], golden["expected"][request.param]
    behavior, q_values = np.array(inputs["pb"]), np.array(inputs["Q"])
    target = np.array(inputs["pe"]) if request.param == "A_offpolicy" else behavior
    lengths = [len(episode["s"]) for episode in inputs["episodes"]]
    rows = np.repeat(np.arange(len(lengths)), lengths)
    columns = np.concatenate([np.arange(length) for length in lengths])
    s, a, r = (np.concatenate([episode[key] for episode in inputs["episodes"]]) for key in "sar")
    s, a = s.astype(int), a.astype(int)
    rewards, live = np.zeros((len(lengths), max(lengths))), np.zeros((len(lengths), max(lengths)), bool)
    rewards[rows, columns], live[rows, columns] = r, True
    episodes = Episodes(rows, columns, rewards, live, inputs["gamma"])
    rho = np.cumprod(episodes.pad(target[s, a] / behavior[s, a], fill=1.0), axis=1)
    q, v = episodes.pad(q_values[s, a]), episodes.pad((target * q_values).sum(1)[s])
    nothing = np.zeros(rho.shape)
    estimators = {
        "is": importance.mean_estimator(rho[:, -1] * episodes.returns),
        "wis": importance.weighted_importance_sampling(episodes, rho),
        "pdis": importance.doubly_robust(episodes, rho, nothing, nothing),  # DR without a model
        "pdwis": importance.weighted_per_decision(episodes, rho),
        "dr": importance.doubly_robust(episodes, rho, q, v),
        "wdr": importance.weighted_doubly_robust(episodes, rho, q, v),
    }
    drawn = np.array([np.bincount(row, minlength=len(lengths)) for row in inputs["boot_idx"]], float)
    return episodes, rho, estimators, drawn, {name: item["value"] for name, item in expected.items()}


@pytest.mark.parametrize(("golden_name", "name"), NAMES.items())
def test_estimators_equal_two_independent_sources(case, golden_name, name):
    assert case[2][name].value == pytest.approx(case[4][golden_name], rel=1e-9)


@pytest.mark.parametrize(
    ("golden_name", "name"),
    [("WIS", "wis"), ("PDWIS", "pdwis"), ("DR_mean", "dr"), ("WDR", "wdr")],
)
def test_resamples_renormalize_inside_each(case, golden_name, name):
    values = case[2][name].resampled(case[3])
    assert values == pytest.approx(case[4][f"boot_{golden_name}"], rel=1e-9)
    assert np.percentile(values, [2.5, 97.5]) == pytest.approx(case[4][f"ci95_{golden_name}"], rel=1e-9)


def test_weights_and_returns_equal_the_golden_ones(case):
    episodes, rho, _, _, expected = case
    summary = summarize_weights(rho[:, -1])
    assert rho[:, -1] == pytest.approx(expected["traj_weights"], rel=1e-9)
    assert episodes.returns == pytest.approx(expected["returns"], rel=1e-9)
    assert summary.ess == pytest.approx(expected["ESS"], rel=1e-9)
    assert summary.mean_weight == pytest.approx(expected["mean_weight"], rel=1e-9)
    assert summary.largest_weight_share == pytest.approx(expected["max_weight_share"], rel=1e-9)


def test_truncation_applies_to_point_and_ess_alike(case):
    episodes, rho, _, _, expected = case
    capped = np.minimum(rho, 2.0)
    wis = importance.weighted_importance_sampling(episodes, capped)
    assert wis.value == pytest.approx(expected["WIS_clip2"], rel=1e-9)
    assert effective_sample_size(capped[:, -1]) == pytest.approx(expected["ESS_clip2"], rel=1e-9)


def test_normalizing_over_live_episodes_only_is_the_trap_not_taken(case):
    assert case[2]["pdwis"].value != pytest.approx(case[4]["TRAP_PDWIS_live_only"], rel=1e-3)


def test_following_the_clinicians_keeps_every_episode(case):
    episodes, _, _, _, _ = case
    ones = np.ones(episodes.rewards.shape)
    wis = importance.weighted_importance_sampling(episodes, ones)
    assert wis.value == pytest.approx(episodes.returns.mean())
    assert effective_sample_size(ones[:, -1]) == pytest.approx(episodes.n_episodes)
