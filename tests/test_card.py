"""The card at the root of the repository, and the package it describes."""

import dataclasses
import math
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from sepsis_cql.checkpoints.hub_package import load_package
from sepsis_cql.common.errors import SepsisCQLError
from sepsis_cql.common.storage import sha256_file
from sepsis_cql.publishing.card import check_card, load_facts, render_pages

ROOT = Path(__file__).parents[1]


@pytest.fixture
def package(tmp_path):
    """A copy of the root's card and of what it is rendered from."""
    for name in ("README.md", "config.json"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "model", tmp_path / "model")
    (tmp_path / "docs").mkdir()
    shutil.copyfile(ROOT / "docs" / "results.md", tmp_path / "docs" / "results.md")
    return tmp_path


def test_card_is_what_its_evidence_gives():
    check_card(ROOT)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("README.md", "value: ", "value: 1"),
        ("README.md", "research artefact", "bedside tool"),
        ("README.md", "cannot be identified", "better than clinicians"),
        ("docs/results.md", "cross-fitted", "exact"),
        ("model/evidence/evaluation.json", '"fqe_mean": ', '"fqe_mean": 1'),
        ("model/evidence/training.json", '"global_step": ', '"global_step": 9'),
        ("config.json", '"gamma": 0.99', '"gamma": 0.9'),
    ],
)
def test_card_check_fails_on_a_changed_number(package, file, old, new):
    text = (package / file).read_text(encoding="utf-8")
    assert old in text
    (package / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(SepsisCQLError, match=r"README\.md|results\.md|config\.json"):
        check_card(package)


def test_card_is_refused_without_the_tables_that_say_how_far_to_trust_it(monkeypatch):
    monkeypatch.setattr("sepsis_cql.publishing.card.measured_lines", lambda: [])
    with pytest.raises(SepsisCQLError, match=r"known-truth tables .*icu-sepsis-large.* not found"):
        check_card(ROOT)


def test_card_is_refused_for_an_evaluation_without_those_tables():
    records = load_facts(ROOT)["records"]
    bare = records.evaluation.model_copy(update={"calibration": records.evaluation.calibration[-1:]})
    with pytest.raises(SepsisCQLError, match="the evaluation lacks the known-truth tables"):
        render_pages(dataclasses.replace(records, evaluation=bare), [])


def test_metadata_is_valid_and_names_one_model():
    card = ModelCard.load(ROOT / "README.md", ignore_metadata_errors=False)
    assert card.data.get("library_name") == "transformers"
    assert card.data.license == "apache-2.0"
    assert card.data.eval_results
    assert {result.dataset_type for result in card.data.eval_results} == {"sepsis-replay"}


def test_root_weights_are_those_the_training_record_names():
    load_package(ROOT)
    assert sha256_file(ROOT / "model.safetensors") == load_facts(ROOT)["training"]["weights_sha256"]


def test_root_package_says_that_it_was_trained_on_simulated_data():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "What these weights were trained on: synthetic ICU" in text
    assert "These are not results on MIMIC-IV" in text
    assert "synthetic" in (ROOT / "config.json").read_text(encoding="utf-8")


def test_truth_does_not_refute_a_policy_called_better_than_clinicians():
    policies = load_facts(ROOT)["evaluation"].policies
    (clinicians,) = (policy.true_value for policy in policies if policy.role == "clinicians")
    endorsed = [
        policy.true_value
        for policy in policies
        if policy.verdict and policy.verdict.label == "better than clinicians"
    ]
    gains = [
        (true.value - clinicians.value) / math.hypot(true.standard_error, clinicians.standard_error)
        for true in endorsed
    ]
    assert not [gain for gain in gains if gain < 2]  # standard errors of the rollouts
