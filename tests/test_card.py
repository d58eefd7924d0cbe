"""The card at the root of the repository, and the package it describes."""

import math
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard

from sepsis_cql.checkpoints.hub_package import load_package
from sepsis_cql.common.errors import SepsisCQLError
from sepsis_cql.common.storage import sha256_file
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.known_truth.record import CalibrationLine
from sepsis_cql.publishing.card import TEMPLATES, CardSettings, check_card, load_facts
from sepsis_cql.publishing.guard.files import find_rule

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


@pytest.mark.parametrize(
    "file", ["README.md", "docs/results.md", "config.json", "model/evidence/build_report.json"]
)
@pytest.mark.parametrize("size", [None, 2**27])
def test_files_that_are_no_text_or_no_size_of_ours_fail_the_check(package, file, size):
    with (package / file).open("wb") as stream:
        stream.write(b"\xff\xfe")
        stream.truncate(size)
    with pytest.raises(
        SepsisCQLError, match=Path(file).name if size else r"README\.md|results\.md|config\.json"
    ):
        check_card(package)


@pytest.mark.parametrize(
    ("listed", "measured", "expected"),
    [
        (["one", "two"], ["two"], r"known-truth tables \['one'\] not found"),
        (["one"], [], r"known-truth tables \['one'\] not found"),
        ([], ["one"], r"found known-truth tables \['one'\], which configs/card.yaml does not list"),
        (["one"], ["one", "one"], None),
    ],
)
def test_card_is_refused_without_the_tables_that_say_how_far_to_trust_it(
    monkeypatch, listed, measured, expected
):
    settings = load_shipped(CardSettings, "card.yaml").model_copy(update={"calibration": listed})
    lines = [CalibrationLine(SimpleNamespace(case=case), None) for case in measured]
    monkeypatch.setattr("sepsis_cql.publishing.card.load_shipped", lambda model, name: settings)
    monkeypatch.setattr("sepsis_cql.publishing.card.measured_lines", lambda: lines)
    monkeypatch.setattr("sepsis_cql.publishing.card.say_limits", lambda lines: [])
    if expected is None:
        assert load_facts(ROOT)["calibration"] == lines
        return
    with pytest.raises(SepsisCQLError, match=expected):
        check_card(ROOT)


def test_metadata_is_valid_and_names_one_model():
    card = ModelCard.load(ROOT / "README.md", ignore_metadata_errors=False)
    assert card.data.get("library_name") == "transformers"
    assert card.data.license == "apache-2.0"
    assert card.data.eval_results
    assert {result.dataset_type for result in card.data.eval_results} == {"sepsis-replay"}


def test_every_link_of_the_card_leads_to_what_is_exported():
    for page in TEMPLATES:
        links = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8"))
        assert links
        for link in links:
            name = ((ROOT / page).parent / link).resolve().relative_to(ROOT.resolve()).as_posix()
            assert (ROOT / name).is_file() and find_rule(name), (page, link)


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
