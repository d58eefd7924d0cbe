"""--force replaces what the same stage made, and nothing else."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sepsis_cql.common.errors import SepsisCQLError
from sepsis_cql.common.ownership import (
    MARK,
    STAGES,
    aside,
    check_new_directory,
    mark_of,
    read_mark,
    write_mark,
)
from sepsis_cql.common.storage import new_directory, open_directory
from sepsis_cql.publishing.guard.files import read_files
from sepsis_cql.replay.interop.demo_download import download_demo, load_demo_settings

from .conftest import STAGE_OF, here, tree


def foreign(tmp_path, stage, given):
    """Somebody's thesis, without a mark."""
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.tex").write_text("years of work")
    return out


def of_another_stage(tmp_path, stage, given):
    out = foreign(tmp_path, stage, given)
    write_mark(out, "concepts" if stage == "build" else "build")
    return out


def forged(tmp_path, stage, given):
    """A mark that is not byte for byte ours."""
    out = foreign(tmp_path, stage, given)
    (out / MARK).write_bytes(mark_of(stage) + b"\n")
    return out


def mark_by_link(tmp_path, stage, given):
    out = foreign(tmp_path, stage, given)
    (tmp_path / "mark").write_bytes(mark_of(stage))
    (out / MARK).symlink_to(tmp_path / "mark")
    return out


def the_input(tmp_path, stage, given):
    if given.is_dir():
        write_mark(given, stage)
    return given


def parent_of_the_input(tmp_path, stage, given):
    write_mark(given.parent, stage)
    return given.parent


def grandparent_of_the_input(tmp_path, stage, given):
    write_mark(tmp_path, stage)
    return tmp_path


def child_of_the_input(tmp_path, stage, given):
    out = (given if given.is_dir() else given.parent) / "within"
    out.mkdir()
    write_mark(out, stage)
    if not given.is_dir():
        (out / "chapter1.tex").write_text("a file has no children; this is only foreign")
        (out / MARK).unlink()
    return out


def link_to_an_own_one(tmp_path, stage, given):
    (tmp_path / "real").mkdir()
    write_mark(tmp_path / "real", stage)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    return tmp_path / "link"


def own_one_behind_a_link(tmp_path, stage, given):
    (tmp_path / "real" / "out").mkdir(parents=True)
    write_mark(tmp_path / "real" / "out", stage)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    return tmp_path / "link" / "out"


def link_to_nowhere(tmp_path, stage, given):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    return tmp_path / "link"


def a_file(tmp_path, stage, given):
    (tmp_path / "file").write_text("kept")
    return tmp_path / "file"


def foreign_by_dots(tmp_path, stage, given):
    (tmp_path / "beside").mkdir()
    return tmp_path / "beside" / ".." / foreign(tmp_path, stage, given).name


PLACES = [
    foreign_by_dots,
    foreign,
    of_another_stage,
    forged,
    mark_by_link,
    the_input,
    parent_of_the_input,
    grandparent_of_the_input,
    child_of_the_input,
    link_to_an_own_one,
    own_one_behind_a_link,
    link_to_nowhere,
    a_file,
]


@pytest.mark.parametrize("name", STAGE_OF)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_force_refuses_what_is_not_an_earlier_result(command, inputs, tmp_path, name, place):
    arguments, given = inputs[name]
    out = place(tmp_path, STAGE_OF[name], given)
    before = tree(tmp_path)
    code, printed = command(*name.split(), *arguments, "--out", out, "--force")
    assert code == 2, printed
    assert "error:" in printed and "Traceback" not in printed
    assert "another --out" in printed
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "place", [foreign, of_another_stage, forged, link_to_nowhere, a_file], ids=lambda place: place.__name__
)
def test_an_audit_replaces_nothing_but_an_earlier_audit_of_its_run(command, inputs, tmp_path, place):
    run = tmp_path / "inputs" / "run"
    place(tmp_path, "audit", None).rename(run / "audit")
    before = tree(tmp_path)
    code, printed = command("audit", "--run", run, "--force")
    assert code == 2 and "Traceback" not in printed
    assert tree(tmp_path) == before


@pytest.mark.parametrize("out", ["", ".", "..", "x/..", "x/../..", "/", "/proc"])
def test_a_place_that_a_process_stands_in_or_above_is_refused(command, inputs, tmp_path, monkeypatch, out):
    (tmp_path / "here" / "x").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    arguments, _ = inputs["import-checkpoint"]
    before = tree(tmp_path)
    code, printed = command("import-checkpoint", *arguments, "--out", out, "--force")
    assert code == 2 and "Traceback" not in printed
    assert tree(tmp_path) == before


def test_an_empty_place_that_cannot_be_renamed_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SepsisCQLError, match="without a name"), new_directory(Path(), "build"):
        pytest.fail("the work began")


@pytest.mark.parametrize("stage", STAGES)
def test_force_replaces_the_result_of_the_same_stage(tmp_path, stage):
    for content in ("old", "new"):
        with new_directory(tmp_path / "out", stage, force=True) as directory:
            (directory / "result").write_text(content)
    assert (tmp_path / "out" / "result").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize(
    "place", [foreign, of_another_stage, link_to_an_own_one], ids=lambda place: place.__name__
)
def test_resume_refuses_what_the_stage_did_not_begin(command, inputs, tmp_path, place):
    for name in ("train", "sweep"):
        _, given = inputs[name]
        folder = tmp_path / name
        folder.mkdir()
        out = place(folder, name, given)
        before = tree(folder)
        with pytest.raises(SepsisCQLError):
            open_directory(out, name, resume=True, force=False)
        assert tree(folder) == before


def test_calibrate_and_the_download_write_into_no_foreign_directory(command, tmp_path):
    out = foreign(tmp_path, "calibrate", None)
    code, printed = command("calibrate", "--out", out, "--case", "icu-sepsis-small")
    assert code == 2 and "without its mark" in printed
    with pytest.raises(SepsisCQLError, match="without its mark"):
        download_demo(out, load_demo_settings(), force=True)
    assert [path.name for path in out.iterdir()] == ["chapter1.tex"]


def test_nobody_waits_for_a_simulation_to_be_told_that_its_place_is_taken(command, tmp_path, monkeypatch):
    render = "sepsis_cql.synthetic.rendering.render.simulate"
    monkeypatch.setattr(render, lambda *_: pytest.fail("simulated first"))
    code, printed = command("synthesize", "--out", foreign(tmp_path, "synthesize", None), "--patients", "60")
    assert code == 2 and "already exists" in printed


def test_what_appears_in_the_place_meanwhile_is_kept(tmp_path):
    with pytest.raises(SepsisCQLError, match="already exists"), new_directory(tmp_path / "out", "build"):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "file").write_text("of somebody else")
    assert (tmp_path / "out" / "file").read_text() == "of somebody else"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_directory_may_be_used_and_an_input_inside_the_new_place_may_not(tmp_path):
    (tmp_path / "empty").mkdir()
    check_new_directory(tmp_path / "empty", "build")
    with pytest.raises(SepsisCQLError, match=r"holds .*which this command reads"):
        check_new_directory(tmp_path / "new", "build", inputs=[tmp_path / "new" / "cache"])


def test_a_mark_is_no_part_of_an_export_and_a_forged_one_is_seen_by_the_guard(tmp_path):
    write_mark(tmp_path, "export")
    (tmp_path / "folder").mkdir()
    write_mark(tmp_path / "folder", "export")
    assert len(read_files(tmp_path)[1]) == 1  # that in the folder
    (tmp_path / MARK).write_bytes(mark_of("export") + b"subject_id 10000032")
    assert len(read_files(tmp_path)[1]) == 2


def test_nobody_else_reads_a_directory_before_it_has_its_name(tmp_path, monkeypatch):
    rename, modes = Path.rename, []

    def watched(path, target):
        if path.is_dir():
            modes.append(path.stat().st_mode & 0o777)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", watched)
    monkeypatch.setattr("sepsis_cql.common.storage._umask", lambda: 0o022)
    with new_directory(tmp_path / "out", "export") as directory:
        (directory / "card").write_text("for all")
    assert modes == [0o700]
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("force", [False, True])
def test_what_a_killed_run_moved_aside_is_still_the_result_of_its_stage(tmp_path, resume, force):
    """A build killed between its two renames; then something else is told to write there."""
    out = foreign(tmp_path, "build", None)
    write_mark(out, "build")
    out.rename(aside(out))
    with pytest.raises(SepsisCQLError):
        open_directory(out, "train", resume=resume, force=force)
    with pytest.raises(SepsisCQLError), new_directory(out, "train", force=force):
        pytest.fail("was let in")
    assert read_mark(out) == "build" and (out / "chapter1.tex").read_text() == "years of work"


def test_a_place_mounted_elsewhere_is_the_same_place(tmp_path):
    for name in ("run/replay", "else where"):
        (tmp_path / name).mkdir(parents=True)
    write_mark(tmp_path / "run" / "replay", "build")
    inner = f"""
from pathlib import Path
from sepsis_cql.common.ownership import check_can_be_renamed, check_new_directory, write_mark
run, elsewhere = Path({str(tmp_path / "run")!r}), Path({str(tmp_path / "else where")!r})
for out, given in ((elsewhere, run), (elsewhere, run / "replay"), (run, elsewhere), (elsewhere / "replay", run)):
    write_mark(out, "build")
    try:
        check_new_directory(out, "build", force=True, inputs=[given])
    except Exception as error:
        print("which this command reads" in str(error))
write_mark(run.parent, "build")
for check in (
    lambda: check_new_directory(run.parent, "build", force=True),
    lambda: check_new_directory(elsewhere, "build", force=True),
    lambda: check_can_be_renamed(elsewhere),
):
    try:
        check()
    except Exception as error:
        print("mounted" in str(error))
"""
    mount = f"mount --bind {shlex.quote(str(tmp_path / 'run'))} {shlex.quote(str(tmp_path / 'else where'))}"
    command = ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$0" -c "$1"', sys.executable, inner]
    found = subprocess.run(command, capture_output=True, text=True, env=here(), check=False)
    if found.returncode:
        pytest.skip(f"nothing can be mounted here: {found.stderr[-100:]}")
    assert found.stdout.split() == ["True"] * 7


def test_nothing_that_a_link_inside_an_input_leads_to_is_replaced(tmp_path):
    with new_directory(tmp_path / "out", "build") as directory:
        (directory / "icu").mkdir()
        (directory / "icu" / "chartevents.csv").write_text("tables")
    (tmp_path / "mimic").mkdir()
    (tmp_path / "mimic" / "icu").symlink_to(tmp_path / "out" / "icu")
    before = tree(tmp_path)
    with (
        pytest.raises(SepsisCQLError, match="which this command reads"),
        new_directory(tmp_path / "out", "build", force=True, inputs=[tmp_path / "mimic"]),
    ):
        pytest.fail("was let in")
    assert tree(tmp_path) == before


def test_the_ledger_and_a_policy_inside_an_earlier_result_are_kept(command, inputs, tmp_path, monkeypatch):
    with new_directory(tmp_path / "out", "evaluate") as directory:
        (directory / "my_policy.py").write_text("def act(states):\n    return states\n")
    monkeypatch.syspath_prepend(tmp_path / "out")
    replay = inputs["evaluate"][0][1]
    evaluate = ["evaluate", "--replay", replay, "--policy", "my_policy:act", "--protocol", "published"]
    code, printed = command(*evaluate, "--out", tmp_path / "out", "--force")
    assert code == 2 and "my_policy.py, which this command reads" in printed
    monkeypatch.setenv("SEPSIS_CQL_HOME", str(tmp_path / "out" / "home"))
    for name, (arguments, _) in inputs.items():
        code, printed = command(*name.split(), *arguments, "--out", tmp_path / "out", "--force")
        assert code == 2 and "home, which this command reads" in printed, name
    assert (tmp_path / "out" / "my_policy.py").exists()


def test_a_ledger_that_is_not_there_yet_is_no_place_for_results(command, inputs, tmp_path):
    arguments, _ = inputs["evaluate"]
    for ledger in (tmp_path / "out", tmp_path / "out" / "ledger"):
        code, printed = command(
            "evaluate", *arguments, "--protocol", "published", "--ledger", ledger, "--out", tmp_path / "out"
        )
        assert code == 2 and "which this command reads" in printed
        assert not (tmp_path / "out").exists()
