"""One process writes a place; whoever comes second is told who, and what killed ones left is cleared."""

import os
import signal
import stat
from pathlib import Path

import pytest

from sepsis_cql.commands.app import main
from sepsis_cql.common.errors import SepsisCQLError
from sepsis_cql.common.ownership import (
    LOCK,
    MARK,
    TEMPORARY,
    aside,
    list_leftovers,
    one_writer,
    scratch_directory,
)
from sepsis_cql.common.storage import new_directory, new_file, open_directory
from sepsis_cql.training.doctor import examine

from ..forked import CONTEXT, Fork
from .conftest import STAGE_OF, tree


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def begin_whole(out):
    with new_directory(out, "build", private=True) as directory:
        (directory / "patients.parquet").write_text("private")
        die()


def begin_part(out):
    open_directory(out, "train", resume=False, force=False)
    with new_file(out / "log"):
        die()


def begin_scratch(out):
    with scratch_directory(out) as directory:
        (directory / "work.duckdb").write_text("private")
        die()


def kill_in(out, work):
    process = CONTEXT.Process(target=work, args=(out,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    "name", [name for name in STAGE_OF if name != "evaluate"] + ["evaluate", "calibrate"]
)
def test_the_second_process_is_told_who_writes_there(command, inputs, tmp_path, hold, name):
    process = hold(tmp_path / "out")
    arguments = [] if name == "calibrate" else inputs[name][0]
    before = tree(tmp_path)
    code, printed = command(*name.split(), *arguments, "--out", tmp_path / "out")
    assert code == 2
    assert f"`sepsis-cql build` (process {process.pid}, since " in " ".join(printed.split())
    assert tree(tmp_path) == before


def test_a_second_push_to_a_repository_is_told(command, tmp_path, hold):
    (tmp_path / "export").mkdir()
    process = hold("Hub repository owner/name")
    code, printed = command("push", "owner/name", "--export", tmp_path / "export")
    assert code == 2 and str(process.pid) in printed
    code, printed = command("push", "owner/other", "--export", tmp_path / "export")
    assert "process" not in printed  # refused for being empty


def test_two_spellings_of_a_place_have_one_lock(tmp_path, hold):
    (tmp_path / "link").symlink_to(tmp_path)
    hold(tmp_path / "out")
    for place in (tmp_path / "link" / "out", tmp_path / "x" / ".." / "out"):
        with pytest.raises(SepsisCQLError, match="expected one writer"), one_writer(place, "train"):
            pass
    with one_writer(tmp_path / "other", "train"):
        pass


def test_another_home_sees_who_writes_there_and_a_dead_one_stops_nobody(tmp_path, hold, monkeypatch):
    monkeypatch.setenv("SEPSIS_CQL_HOME", str(tmp_path / "another"))
    process = hold(tmp_path / "out", Path)
    monkeypatch.setenv("SEPSIS_CQL_HOME", str(tmp_path / "own"))
    with pytest.raises(SepsisCQLError, match=f"process {process.pid}"), one_writer(tmp_path / "out", "train"):
        pass
    (lock,) = list_leftovers(tmp_path, (LOCK,))
    assert stat.S_IMODE(lock.stat().st_mode) == 0o666  # whoever may write there may hold it
    process.kill()
    process.join()
    (fact,) = [fact for fact in examine(tmp_path, None) if fact.name == "leftover"]
    assert str(lock) in fact.found
    with one_writer(tmp_path / "out", "train"):
        pass
    assert list_leftovers(tmp_path, (LOCK,)) == []


def test_nothing_is_replaced_while_another_writes_inside_it(tmp_path, hold):
    with new_directory(tmp_path / "run", "reproduce") as directory:
        (directory / "replay").mkdir()
    process = hold(tmp_path / "run" / "replay", Path)
    for _ in range(2):
        with (
            pytest.raises(SepsisCQLError, match=f"process {process.pid}.* is writing inside it"),
            new_directory(tmp_path / "run", "reproduce", force=True),
        ):
            pytest.fail("was let in")
    process.kill()
    process.join()
    with new_directory(tmp_path / "run", "reproduce", force=True):
        pass
    assert [path.name for path in (tmp_path / "run").iterdir()] == [MARK]


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path):
    with one_writer(tmp_path / "out", "train"):
        (lock,) = list_leftovers(tmp_path, (LOCK,))
    (tmp_path / "thesis").write_text("an input")
    lock.symlink_to(tmp_path / "thesis")
    with pytest.raises(OSError, match="symbolic links"), one_writer(tmp_path / "out", "train"):
        pass
    assert (tmp_path / "thesis").read_text() == "an input"


def test_the_lock_of_a_dead_process_is_free(tmp_path, hold, home):
    process = hold(tmp_path / "out")
    process.kill()
    process.join()
    with one_writer(tmp_path / "out", "train"):
        pass
    assert list((home / "locks").iterdir()) == []
    assert stat.S_IMODE((home / "locks").stat().st_mode) == 0o700


def test_of_two_commands_at_once_one_works(tmp_path):
    arguments = ["sepsis-cql", "synthesize", "--patients", "60", "--out", tmp_path / "out"]
    both = [Fork(main, tmp_path, arguments) for _ in range(2)]
    assert sorted(fork.wait()[0] for fork in both) == [0, 2]
    assert (tmp_path / "out" / MARK).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_run_left_is_private_is_listed_and_is_removed_by_the_next(tmp_path):
    kill_in(tmp_path / "out", begin_whole)
    (left,) = list_leftovers(tmp_path)
    assert left.name.startswith(TEMPORARY)
    assert stat.S_IMODE(left.stat().st_mode) == 0o700
    facts = [fact.found for fact in examine(tmp_path, None) if fact.name == "leftover"]
    assert [f"{left}: 0.0 MiB"] == [found for found in facts if TEMPORARY in found]
    with new_directory(tmp_path / "other", "build"):
        pass
    assert left.exists()  # not its own
    with new_directory(tmp_path / "out", "build"):
        pass
    assert list_leftovers(tmp_path) == []


def test_what_a_killed_run_left_in_a_run_is_removed_by_resuming_it(tmp_path):
    kill_in(tmp_path / "out", begin_part)
    assert len(list_leftovers(tmp_path)) == 1
    open_directory(tmp_path / "out", "train", resume=True, force=False)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [MARK]


def test_scratch_of_dead_runs_is_removed_and_of_living_ones_kept(tmp_path):
    kill_in(tmp_path, begin_scratch)
    (dead,) = list_leftovers(tmp_path)
    with scratch_directory(tmp_path) as first:
        assert not dead.exists()
        with scratch_directory(tmp_path) as second:
            assert first.exists() and first != second
    assert list(tmp_path.iterdir()) == []


def test_a_run_killed_between_two_renames_loses_nothing(tmp_path):
    with new_directory(tmp_path / "out", "build") as directory:
        (directory / "result").write_text("earlier")
    (tmp_path / "out").rename(aside(tmp_path / "out"))
    with pytest.raises(SepsisCQLError, match="already exists"):
        for _ in range(2):
            with new_directory(tmp_path / "out", "build"):
                raise SepsisCQLError("already exists")
    assert (tmp_path / "out" / "result").read_text() == "earlier"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_private_files_are_private_from_creation_whatever_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        with new_directory(tmp_path / "out", "build", private=True) as directory:
            (directory / "folder").mkdir()
            (directory / "file").write_text("private")
            for path in (directory, directory / "folder", directory / "file"):
                assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


def test_a_result_for_others_is_private_until_it_is_whole(tmp_path):
    before = os.umask(0o022)
    try:
        with new_directory(tmp_path / "out", "evaluate") as directory:
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755
