"""The ledger of test splits is kept whole, outside the replay, and admits one policy."""

import json
import multiprocessing
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from sepsis_cql.common.errors import SepsisCQLError, TrainingError
from sepsis_cql.common.provenance import ROOT
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.record import load_evaluation
from sepsis_cql.evaluation.test_split import ledger_of, note_test_split, sha256_split
from sepsis_cql.publishing.guard.disclosure import reduce_evaluation
from sepsis_cql.publishing.verify import _say_ledger
from sepsis_cql.replay.directory import TEST_USES
from sepsis_cql.replay.records import Source
from sepsis_cql.replay.settings import ReplaySettings
from sepsis_cql.tests.training.made_up import make_transitions
from sepsis_cql.training.sweep import memory
from sepsis_cql.training.sweep.ledger import (
    HEAD,
    LEDGER,
    NOTHING,
    count_test_uses,
    default_ledger,
    holds,
    open_test_split,
    read_ledger,
)

from .made_up import MadeUpReplay

A, B, SPLIT = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
def ledger(tmp_path):
    """Four scorings of two policies."""
    place = tmp_path / "ledger"
    open_test_split(place, A, SPLIT)
    open_test_split(place, B, SPLIT, again=True, why="a better reward")
    open_test_split(place, A, SPLIT)
    open_test_split(place, A, "d" * 64)
    return place


def lines_of(ledger):
    return (ledger / LEDGER).read_text().splitlines(keepends=True)


def changed(line, **values):
    """One entry with other values, written as we write."""

    def change(lines):
        entry = json.loads(lines[line]) | values
        lines[line] = json.dumps(entry, separators=(",", ":")) + "\n"
        return lines

    return change


def swapped(lines):
    """Two entries in each other's place."""
    return [lines[0], lines[2], lines[1], lines[3]]


ATTACKS = {
    "an empty object": lambda lines: ["{}"],
    "an empty object and a newline": lambda lines: ["{}\n"],
    "an empty list": lambda lines: ["[]\n"],
    "nothing": lambda lines: [],
    "a newline": lambda lines: ["\n"],
    "the last entry cut off": lambda lines: lines[:-1],
    "two entries cut off": lambda lines: lines[:-2],
    "only the first entry left": lambda lines: lines[:1],
    "the first entry cut off": lambda lines: lines[1:],
    "an entry in the middle cut out": lambda lines: lines[:1] + lines[2:],
    "half of the last line": lambda lines: [*lines[:-1], lines[-1][:50]],
    "no last newline": lambda lines: [*lines[:-1], lines[-1].rstrip()],
    "two entries swapped": swapped,
    "an entry twice": lambda lines: [*lines, lines[-1]],
    "the reason edited": changed(1, why="nothing"),
    "the reason removed": changed(1, why=None),
    "a policy edited": changed(1, policy_sha256=A),
    "the split edited": changed(1, split_sha256="e" * 64),
    "the time edited": changed(0, scored_at="2020-01-01T00:00:00+00:00"),
    "the last entry edited": changed(3, policy_sha256=B),
    "a number edited": changed(2, number=9),
    "a number as text": changed(2, number="3"),
    "an unknown field": changed(0, note="x"),
    "a hash that is none": changed(0, policy_sha256="A" * 64),
    "spaces": lambda lines: [lines[0].replace(":", ": "), *lines[1:]],
    "keys in another order": lambda lines: [
        json.dumps(dict(reversed(json.loads(lines[0]).items())), separators=(",", ":")) + "\n",
        *lines[1:],
    ],
    "a key twice": lambda lines: [lines[0].replace("{", '{"number":1,', 1), *lines[1:]],
    "a list nested deeply": lambda lines: ["[" * 100_000 + "\n"],
    "no JSON": lambda lines: ["once upon a time\n"],
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_ledger_that_is_not_as_it_was_left_is_refused(ledger, attack):
    (ledger / LEDGER).write_text("".join(ATTACKS[attack](lines_of(ledger))))
    before = (ledger / LEDGER).read_bytes()
    with pytest.raises(TrainingError, match="expected the ledger of test splits"):
        open_test_split(ledger, A, SPLIT)
    assert (ledger / LEDGER).read_bytes() == before


@pytest.mark.parametrize("name", [LEDGER, HEAD])
@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"0" * 64])
def test_a_ledger_without_one_of_its_two_files_is_refused(ledger, name, content):
    (ledger / name).unlink() if content is None else (ledger / name).write_bytes(content)
    with pytest.raises(TrainingError, match="expected the ledger of test splits"):
        read_ledger(ledger)


def test_a_process_killed_between_the_two_files_does_no_harm(ledger):
    head = (ledger / HEAD).read_text()
    open_test_split(ledger, A, SPLIT)
    (ledger / HEAD).write_text(head)
    assert open_test_split(ledger, A, SPLIT).number == 6
    assert [entry.number for entry in read_ledger(ledger)] == [1, 2, 3, 4, 5, 6]
    assert read_ledger(ledger)[0].previous == NOTHING


def enter(ledger, policy, barrier, queue):
    for number in range(ROUNDS):
        barrier.wait()
        try:
            open_test_split(ledger, policy, f"{number:064d}")
            queue.put((number, policy))
        except SepsisCQLError:
            pass


ROUNDS = 25


def test_of_two_policies_at_the_same_time_one_is_admitted(tmp_path):
    fork = multiprocessing.get_context("fork")
    barrier, queue = fork.Barrier(2), fork.Queue()
    both = [fork.Process(target=enter, args=(tmp_path, policy, barrier, queue)) for policy in (A, B)]
    for process in both:
        process.start()
    admitted = [queue.get(timeout=60) for _ in range(ROUNDS)]
    for process in both:
        process.join()
    assert queue.empty()
    assert sorted(number for number, _ in admitted) == list(range(ROUNDS))
    assert len(read_ledger(tmp_path)) == ROUNDS


def test_a_reason_has_a_length(tmp_path):
    open_test_split(tmp_path, A, SPLIT)
    with pytest.raises(TrainingError, match="found 501 characters, expected at most 500"):
        open_test_split(tmp_path, B, SPLIT, again=True, why="x" * 501)


def test_the_ledger_lies_in_the_users_own_directory(home):
    assert default_ledger() == home / "ledger"


def test_a_replay_built_anew_is_the_same_test_split(tmp_path):
    for path in ("first", "second"):
        replay = MadeUpReplay(make_transitions(seed=2), make_transitions(seed=1), Path(path))
        assert note_test_split(A, replay, again=False, why=None) == 1
    with pytest.raises(TrainingError, match="already used for 1 policy"):
        note_test_split(B, replay, again=False, why=None)
    assert count_test_uses(default_ledger(), sha256_split(replay.test)) == 1


def test_a_ledger_that_was_removed_or_begun_elsewhere_is_noticed(tmp_path, home):
    replay = MadeUpReplay(make_transitions(seed=2), make_transitions(seed=1))
    note_test_split(A, replay, again=False, why=None)
    note_test_split(B, replay, again=True, why="a better reward")
    for name in (LEDGER, HEAD):
        (home / "ledger" / name).rename(tmp_path / name)
    for ledger in (None, tmp_path / "new"):
        with pytest.raises(TrainingError, match="found 0 uses of this test split, expected the 2"):
            note_test_split(B, replay, again=False, why=None, ledger=ledger)
    assert note_test_split(B, replay, again=False, why=None, ledger=tmp_path) == 2
    other = replace(replay, test=make_transitions(seed=3))
    assert note_test_split(B, other, again=False, why=None, ledger=tmp_path / "new") == 1


@pytest.fixture
def scored(tmp_path, home):
    """A replay that remembers one scoring, of which the user's own directory no longer knows."""
    (tmp_path / "replay").mkdir()
    replay = MadeUpReplay(make_transitions(seed=2), make_transitions(seed=1), tmp_path / "replay")
    note_test_split(A, replay, again=False, why=None)
    home.rename(tmp_path / "removed")
    return replay


def test_a_removed_directory_of_the_user_is_noticed_by_the_replay(scored, tmp_path, home):
    with pytest.raises(TrainingError, match=r"found 0 uses .* expected the 1 .*replay/test-split-"):
        note_test_split(B, scored, again=False, why=None)
    shutil.copytree(tmp_path / "removed", home, dirs_exist_ok=True)
    assert note_test_split(B, scored, again=True, why="a better reward") == 2


def test_a_ledger_begun_anew_with_as_many_uses_is_noticed(scored, tmp_path, monkeypatch):
    fresh = replace(scored, path=tmp_path / "a fresh copy elsewhere")
    assert note_test_split(B, fresh, again=False, why=None) == 1  # this cannot be noticed
    with pytest.raises(TrainingError, match="found another entry 1, expected"):
        note_test_split(B, scored, again=False, why=None)


def test_a_replay_that_cannot_be_written_is_no_obstacle(scored, tmp_path, monkeypatch):
    def refuse(path, value, write=memory.write_json):
        if "seen-test-splits" not in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        write(path, value)

    for file in scored.path.iterdir():
        file.unlink()
    monkeypatch.setattr(memory, "write_json", refuse)
    assert note_test_split(A, scored, again=False, why=None) == 1
    assert list(scored.path.iterdir()) == []


def test_building_a_replay_again_keeps_what_it_remembers(copy):
    from sepsis_cql.replay.build import build_replay
    from sepsis_cql.replay.settings import load_build_settings

    name = f"{TEST_USES}{'c' * 16}.json"
    (copy / "replay" / name).write_text("{}")
    build_replay(copy / "mimic", copy / "replay", load_build_settings(), force=True)
    assert (copy / "replay" / name).read_text() == "{}"


def test_an_evaluation_says_where_the_ledger_stood(scored, tmp_path):
    replay = replace(scored, path=tmp_path / "elsewhere")
    note_test_split(A, replay, again=False, why=None)
    note_test_split(A, replay, again=False, why=None)
    stood = ledger_of(replay, None)
    assert (stood.entries, stood.head) == (2, read_ledger(default_ledger())[-1].sha256)
    simulated = replace(replay, source=Source(name="synthetic", version="1"))
    assert ledger_of(simulated, None) is None
    assert holds(default_ledger(), stood) and not holds(tmp_path / "new", stood)
    found = load_evaluation(ROOT / "model" / "evidence")
    recorded = found.model_copy(update={"ledger": stood, "test_split_uses": 1})
    settings = load_shipped(ReplaySettings, "replay.yaml")
    assert reduce_evaluation(recorded, settings).ledger.model_dump() == stood.model_dump()
    assert _say_ledger(recorded, None) == ""
    assert _say_ledger(recorded, tmp_path / "new").startswith("entry 2 (")
    with pytest.raises(ValidationError, match="a split that was not used"):
        reduce_evaluation(recorded.model_copy(update={"test_split_uses": None}), settings)
    assert "ledger" not in reduce_evaluation(found, settings).model_dump()


def test_a_simulated_run_may_begin_a_ledger_of_its_own(tmp_path):
    replay = MadeUpReplay(make_transitions(seed=2), make_transitions(seed=1))
    simulated = replace(replay, source=Source(name="synthetic", version="1"))
    for place in ("one", "two"):
        assert note_test_split(A, simulated, again=False, why=None, ledger=tmp_path / place) == 1
