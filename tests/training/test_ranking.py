"""The order of runs follows the metric asked for, and the files hold the published fields."""

import pytest

from sepsis_cql.training.records import Score
from sepsis_cql.training.sweep.ranking import Ranking, ScoredRun

from .made_up import SETTINGS

FIELDS = ["reward_variant", "learning_rate", "alpha"]


def make_score(epoch=2, fqe=8.0, half=1.0, passes=True, published=12.0):
    return Score(
        epoch=epoch,
        softening="greedy",
        fqe=fqe,
        fqe_lower=fqe - half,
        fqe_upper=fqe + half,
        ess=100.0,
        passes_gates=passes,
        gates=[] if passes else ["ESS below 50"],
        published_fqe=published,
        published_wis=1.0,
        published_ess=2.0,
        n_episodes=40,
    )


def make_run(name, *scores, alpha=0.1, seed=42):
    settings = SETTINGS.model_copy(update={"alpha": alpha, "seed": seed})
    return ScoredRun(name, settings, list(scores))


def rank(runs, metric):
    return Ranking(runs, FIELDS, metric)


def names(runs):
    return [run.name for run in runs]


def test_the_sound_order_prefers_what_the_data_assure_and_overlap_before_all():
    runs = [
        make_run("no overlap", make_score(fqe=14, passes=False)),
        make_run("uncertain", make_score(fqe=10, half=4)),
        make_run("certain", make_score(fqe=9, half=0.5)),
    ]
    assert names(rank(runs, "fqe").ordered()) == ["certain", "uncertain", "no overlap"]


def test_the_published_order_is_that_of_its_own_network():
    runs = [make_run("a", make_score(fqe=9, published=11)), make_run("b", make_score(fqe=1, published=15.7))]
    assert names(rank(runs, "published").ordered()) == ["b", "a"]
    assert names(rank(runs, "fqe").ordered()) == ["a", "b"]


def test_each_run_counts_by_its_best_epoch():
    run = make_run("a", make_score(2, fqe=7, published=15), make_score(4, fqe=9, published=14))
    assert run.best("fqe").epoch == 4
    assert run.best("published").epoch == 2


def test_seeds_that_disagree_count_against_a_configuration():
    steady = [make_run(f"steady {s}", make_score(fqe=8), alpha=1.0, seed=s) for s in (1, 2, 3)]
    lucky = [
        make_run(f"lucky {s}", make_score(fqe=fqe), alpha=0.05, seed=s)
        for s, fqe in ((1, 5), (2, 8), (3, 12))
    ]
    assert names(rank([*lucky, *steady], "fqe").configurations()[0]) == names(steady)
    assert rank([*lucky, *steady], "fqe").chosen() in steady
    published = [
        make_run("x", make_score(published=12), alpha=1.0),
        make_run("y", make_score(published=9), seed=1),
        make_run("z", make_score(published=14), seed=2),
    ]
    assert rank(published, "published").chosen().name == "x"


def test_stage_files_hold_the_published_fields_and_ours_beside_them():
    runs = [make_run(f"r{alpha}", make_score(published=alpha), alpha=alpha) for alpha in (0.1, 0.5)]
    evaluation = rank(runs, "published").stage_evaluation(1, top=1)
    assert evaluation["n_total_configs"] == 2
    assert evaluation["top_configs"] == [
        {"reward_variant": "sparse", "learning_rate": 1e-3, "cql_alpha": 0.5}
    ]
    assert evaluation["val_n_episodes"] == 40
    row = evaluation["rankings"][0]
    assert {name: row[name] for name in row if name != "sound"} == {
        "reward_variant": "sparse",
        "learning_rate": 1e-3,
        "cql_alpha": 0.5,
        "best_fqe": 0.5,
        "best_epoch": 2,
        "wis": 1.0,
        "ess": 2.0,
        "seed": 42,
    }
    assert (row["sound"]["fqe_lower"], row["sound"]["fqe_upper"], row["sound"]["ess"]) == (7.0, 9.0, 100.0)


def test_the_multiseed_file_gives_mean_and_deviation_with_ddof_1():
    runs = [make_run(f"r{s}", make_score(published=p, fqe=p - 5), seed=s) for s, p in ((1, 10.0), (2, 14.0))]
    (result,) = rank(runs, "fqe").multiseed_validation([1, 2])["results"]
    assert (result["n_seeds"], result["fqe_mean"], result["fqe_values"]) == (2, 12.0, [10.0, 14.0])
    assert result["fqe_std"] == pytest.approx(8**0.5)
    assert result["sound"]["fqe_values"] == [5.0, 9.0]
    assert result["sound"]["n_seeds_with_overlap"] == 2
