"""A choice is frozen once, and the ledger lets nobody look at the test split twice unnoticed."""

import pytest

from sepsis_cql.common.errors import CheckpointError, SepsisCQLError, TrainingError
from sepsis_cql.common.storage import sha256_file
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.training.run import train_from_replay
from sepsis_cql.training.sweep.ledger import count_test_uses, open_test_split, read_ledger
from sepsis_cql.training.sweep.selection import (
    Evidence,
    freeze_selection,
    load_selection,
    require_selected,
)

from .made_up import RUNTIME, SETTINGS

A, B, REPLAY = "a" * 64, "b" * 64, "f" * 64
EVIDENCE = Evidence(rule="the only one")


@pytest.fixture
def run(demo_replay, tmp_path):
    settings = SETTINGS.model_copy(update={"epochs": 2})
    return tmp_path / "run", train_from_replay(open_replay(demo_replay), tmp_path / "run", settings, RUNTIME)


def test_a_selection_names_weights_checkpoint_settings_data_and_evidence(run, tmp_path):
    out, record = run
    selection = freeze_selection(out, EVIDENCE, tmp_path / "selection.json")
    assert load_selection(tmp_path / "selection.json") == selection
    assert selection.weights_sha256 == record.weights_sha256
    assert selection.checkpoint.sha256 == sha256_file(out / "model" / selection.checkpoint.file)
    assert selection.settings == record.settings
    assert selection.data == record.data
    assert selection.validation == EVIDENCE


def test_another_policy_does_not_replace_a_frozen_one(run, demo_replay, tmp_path):
    freeze_selection(run[0], EVIDENCE, tmp_path / "selection.json")
    freeze_selection(run[0], Evidence(rule="another reason"), tmp_path / "selection.json")
    settings = SETTINGS.model_copy(update={"epochs": 2, "seed": 9})
    train_from_replay(open_replay(demo_replay), tmp_path / "other", settings, RUNTIME)
    with pytest.raises(TrainingError, match=r"selection\.json: already froze policy"):
        freeze_selection(tmp_path / "other", EVIDENCE, tmp_path / "selection.json")


def test_changed_weights_are_not_frozen(run, tmp_path):
    weights = run[0] / "package" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: SHA-256 .* but training\.json says"):
        freeze_selection(run[0], EVIDENCE, tmp_path / "selection.json")


def test_an_incomplete_run_is_not_frozen(run, tmp_path):
    (run[0] / "training.json").unlink()
    with pytest.raises(SepsisCQLError, match=r"training\.json: not found"):
        freeze_selection(run[0], EVIDENCE, tmp_path / "selection.json")


def test_only_the_chosen_policy_on_its_replay_is_let_through(run, tmp_path):
    file = tmp_path / "selection.json"
    selection = freeze_selection(run[0], EVIDENCE, file)
    weights, replay = selection.policy_sha256, selection.data.replay_fingerprint
    assert require_selected(file, weights, replay) == selection
    with pytest.raises(TrainingError, match="chose policy_sha256"):
        require_selected(file, A, replay)
    with pytest.raises(TrainingError, match="chose replay_fingerprint"):
        require_selected(file, weights, REPLAY)


def test_a_file_that_is_no_selection_is_refused(tmp_path):
    (tmp_path / "selection.json").write_text('{"settings": {}}')
    with pytest.raises(SepsisCQLError, match=r"weights_sha256: Field required"):
        load_selection(tmp_path / "selection.json")


@pytest.fixture
def ledger(tmp_path):
    open_test_split(tmp_path / "ledger", A, REPLAY)
    return tmp_path / "ledger"


def test_the_same_policy_may_be_scored_again_and_is_noted(ledger):
    entry = open_test_split(ledger, A, REPLAY)
    assert (entry.number, entry.why) == (2, None)
    assert read_ledger(ledger)[1:] == [entry]
    assert count_test_uses(ledger, REPLAY) == 1


@pytest.mark.parametrize(("again", "why"), [(False, None), (True, None), (True, "  "), (False, "a reason")])
def test_a_second_policy_is_refused_and_leaves_no_trace(ledger, again, why):
    before = read_ledger(ledger)
    with pytest.raises(
        TrainingError, match=r"already used for 1 policy, last for aaaaaaaaaaaa .*--again --why"
    ):
        open_test_split(ledger, B, REPLAY, again, why)
    assert read_ledger(ledger) == before


def test_a_second_policy_with_a_reason_counts_as_a_further_use(ledger):
    assert open_test_split(ledger, B, REPLAY, again=True, why="reward corrected").why == "reward corrected"
    assert count_test_uses(ledger, REPLAY) == 2
    assert open_test_split(ledger, A, REPLAY).why is None
    assert count_test_uses(ledger, REPLAY) == 2


def test_each_test_split_counts_alone(ledger):
    assert open_test_split(ledger, B, "0" * 64).why is None
    assert count_test_uses(ledger, REPLAY) == 1
    assert count_test_uses(ledger.parent / "no ledger", REPLAY) == 0
