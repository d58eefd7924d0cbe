"""No patient or episode stands in two splits, by whatever numbers; a test split is known by what it holds."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.evaluation.api import evaluate
from sepsis_cql.evaluation.test_split import check_splits, note_test_split, sha256_split
from sepsis_cql.tests.training.made_up import make_transitions

from .made_up import MadeUpReplay

A = "a" * 64


def reordered(transitions):
    """The same episodes under other numbers and in another order."""
    starts = [*transitions.episode_starts, len(transitions)]
    parts = [np.arange(a, b) for a, b in pairwise(starts)]
    rows = np.concatenate(parts[::-1])
    names = ("states", "actions", "rewards", "next_states", "terminals", "step_index")
    arrays = {name: getattr(transitions, name)[rows] for name in names}
    numbers = np.repeat(np.arange(len(parts)), [len(part) for part in parts[::-1]])
    return replace(transitions, stay_id=numbers, subject_id=numbers, **arrays)


def without_one(transitions):
    """All episodes but the last."""
    end = transitions.episode_starts[-1]
    names = (
        "states",
        "actions",
        "rewards",
        "next_states",
        "terminals",
        "step_index",
        "stay_id",
        "subject_id",
    )
    return replace(transitions, **{name: getattr(transitions, name)[:end] for name in names})


def test_a_test_split_is_known_by_its_episodes_whatever_their_order():
    first = make_transitions(seed=1)
    assert sha256_split(first) == sha256_split(reordered(first))
    assert sha256_split(first) != sha256_split(make_transitions(seed=2))
    assert sha256_split(first) != sha256_split(without_one(first))


@pytest.mark.parametrize("copy", [lambda split: split, reordered, without_one])
def test_a_validation_split_made_of_the_test_split_is_refused(tmp_path, copy):
    test = make_transitions(seed=1)
    check_splits(MadeUpReplay(make_transitions(seed=2), test))
    with pytest.raises(EvaluationError, match="are those of its test split"):
        check_splits(MadeUpReplay(copy(test), test))
    with pytest.raises(EvaluationError, match="are those of its test split"):
        note_test_split(A, MadeUpReplay(copy(test), test), again=False, why=None, ledger=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["validation", "test"])
@pytest.mark.parametrize("copy", [lambda split: split, reordered, without_one])
def test_a_split_made_of_the_training_split_is_refused(name, copy):
    replay = MadeUpReplay(make_transitions(seed=2), make_transitions(seed=1))
    with pytest.raises(EvaluationError, match=f"its train split are those of its {name} split"):
        check_splits(replace(replay, **{name: copy(replay.train)}))


def as_other_patients(replay, split, other):
    """Put a split in the place of another, under numbers of other patients."""
    table = pq.read_table(replay / f"{split}.parquet")
    for name in ("subject_id", "stay_id"):
        numbers = pc.add(table[name], 10_000_000)
        table = table.set_column(table.column_names.index(name), name, numbers)
    pq.write_table(table, replay / f"{other}.parquet")


@pytest.mark.parametrize(
    ("split", "other"), [("train", "validation"), ("train", "test"), ("test", "validation")]
)
@pytest.mark.parametrize("name", ["subject_id", "stay_id"])
def test_a_patient_of_two_splits_is_found_whatever_the_states(copy, command, split, other, name):
    files = [copy / "replay" / f"{one}.parquet" for one in (split, other)]
    first, table = map(pq.read_table, files)
    numbers = pa.array([first[name][0].as_py()] * table.num_rows)
    pq.write_table(table.set_column(table.column_names.index(name), name, numbers), files[1])
    for arguments in (["train", "--replay"], ["audit", "--run"], ["doctor", "--replay"]):
        place = copy if arguments[0] == "audit" else copy / "replay"
        code, printed = command(
            *arguments, place, *(["--out", copy / "out"] if arguments[0] != "audit" else [])
        )
        assert code and f"found 1 {name} of its" in printed
    assert not (copy / "out").exists()


def test_no_evaluation_shows_a_test_split_that_is_called_validation(copy):
    """By whatever door: the call from Python, and `verify` of evidence about validation, go through this one."""
    as_other_patients(copy / "replay", "test", "validation")
    with pytest.raises(EvaluationError, match="its validation split are those of its test split"):
        evaluate(copy / "training" / "package", copy / "replay")


def test_held_out_patients_of_an_audit_are_not_those_it_learned_from(copy, command):
    as_other_patients(copy / "replay", "train", "validation")
    code, printed = command("audit", "--run", copy)
    assert code == 2 and "most episodes of its train split are those of its validation split" in printed
    assert not (copy / "audit").exists()


def test_an_audit_speaks_of_the_weights_it_looked_at(copy, command):
    weights = copy / "training" / "package" / "model.safetensors"
    save_file(
        {name: tensor + 0.0 for name, tensor in load_file(weights).items()}, weights, metadata={"a": "b"}
    )
    code, printed = command("audit", "--run", copy)
    assert code == 2 and "other weights than those of training.json" in printed
