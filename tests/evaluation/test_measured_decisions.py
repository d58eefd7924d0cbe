"""Tables of docs/decisions are what benchmarks measured."""

import json
from pathlib import Path

import numpy as np
import pytest

from sepsis_cql.benchmarks.ranking import cut_returns
from sepsis_cql.evaluation.estimators.episodes import Episodes
from sepsis_cql.evaluation.estimators.importance import weighted_doubly_robust
from sepsis_cql.evaluation.looks import FAMILY_WISE

ROOT = Path(__file__).parents[2]
RULES = ("none", "worst case", "1 x strongest", "2 x strongest", "3 x strongest", "1 x group", "2 x group")
KINDS = {"power": "truly better", "wrong": "not better"}


def test_the_table_of_fairer_rules_is_the_record():
    record = json.loads((ROOT / "benchmarks/hidden_factors.json").read_text(encoding="utf-8"))
    docs = (ROOT / "docs/decisions/0009-fairer-rules.md").read_text(encoding="utf-8")
    for name, case in record["cases"].items():
        for kind, caption in KINDS.items():
            if case[f"of_{kind}"]:
                shares = " | ".join(f"{case[kind][rule]['value']:.2f}" for rule in RULES)
                row = f"| {name} | {case['repetitions']} | {case[f'of_{kind}']} {caption} | {shares} |"
                assert row in docs
    assert f"| {' | '.join(RULES)} |" in docs
    assert not record["commit"].endswith("-dirty")
    assert all(
        case["wrong"].get("worst case", {"value": 0})["value"] == 0 for case in record["cases"].values()
    )


def test_the_table_of_a_blend_is_the_record():
    record = json.loads((ROOT / "benchmarks/ranking.json").read_text(encoding="utf-8"))
    docs = (ROOT / "docs/decisions/0010-no-blend.md").read_text(encoding="utf-8")
    named = {
        "WIS": "wis",
        "PDWIS": "pdwis",
        "WDR": "wdr",
        "cross-fitted FQE": "fqe_cross_fitted",
        "MAGIC": "magic",
    }
    for caption, name in named.items():
        cells = [case["estimators"][name] for case in record["cases"].values()]
        numbers = " | ".join(f"{cell['rmse']:.3f} | {cell['spearman']:.2f}" for cell in cells)
        assert f"| {caption} | {numbers} |" in docs
    assert not record["commit"].endswith("-dirty")


def test_a_blend_lies_between_the_evaluator_and_weighted_doubly_robust():
    rng = np.random.default_rng(0)
    rewards, q, v = rng.normal(size=(3, 50, 4))
    rho = np.cumprod(rng.uniform(0.5, 2.0, (50, 4)), axis=1)
    episodes = Episodes(np.array([]), np.array([]), rewards, np.ones_like(rewards, dtype=bool), 0.9)
    cut = cut_returns(rewards, rho, q, v, episodes.discounts).sum(axis=0)
    assert cut[0] == pytest.approx(v[:, 0].mean())
    assert cut[-1] == pytest.approx(weighted_doubly_robust(episodes, rho, q, v).value)


def test_what_the_page_says_of_behavior_refits_is_the_record():
    record = json.loads((ROOT / "benchmarks/behavior_refits.json").read_text(encoding="utf-8"))
    page = " ".join((ROOT / "docs/howto.md").read_text(encoding="utf-8").split())
    without, refitted = record["by behavior_refits"]["0"], record["by behavior_refits"]["6"]
    for name, text in {
        "recommended difference": "covers in {:.2f} of repetitions instead of {:.2f}",
        "independent difference": "that of WDR in {:.2f} instead of {:.2f}",
    }.items():
        assert text.format(refitted[name]["coverage"], without[name]["coverage"]) in page
    wider = refitted["independent difference"]["mean_width"] / without["independent difference"]["mean_width"]
    assert f"at {wider:.1f} times the width" in page
    assert f"hold in {refitted['gates hold']:.2f} instead of {without['gates hold']:.2f}" in page


def test_no_ward_made_to_deceive_has_a_policy_endorsed_more_often_than_the_decision_says():
    wards = json.loads((ROOT / "benchmarks/deceptions.json").read_text(encoding="utf-8"))["wards"]
    text = (ROOT / "docs/decisions/0012-doses-that-hardly-anybody-was-seen-to-get.md").read_text(
        encoding="utf-8"
    )
    for name, ward in wards.items():
        n = ward["repetitions"]
        endorsed, lenient = (
            f"{round(ward[key]['value'] * n)} of {n}"
            for key in ("endorsed", "endorsed_but_for_hidden_factors")
        )
        start = f"| {name} | {ward['clinicians']} | {ward['decisions']}, {ward['scored']} | "
        assert f"{start}{ward['true_gain']:.2f} | {endorsed} | {lenient} |" in text
        assert ward["endorsed"]["value"] <= (FAMILY_WISE if ward["policies"] > 1 else 0)
    assert f"in {sum(ward['repetitions'] for ward in wards.values()):,} draws of {len(wards)} wards" in text
