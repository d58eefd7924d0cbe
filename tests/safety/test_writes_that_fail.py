"""A write that the system refuses, or Ctrl-C, ends in one sentence; nothing half-written is left."""

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pytest
import torch

from sepsis_cql.commands import checkpoints
from sepsis_cql.common import storage
from sepsis_cql.common.errors import SepsisCQLError
from sepsis_cql.common.storage import read_json
from sepsis_cql.tests.replay.made_up import six_septic_patients

from .conftest import here, tree

REFUSALS = ["ENOSPC", "EDQUOT", "EACCES", "EPERM", "EROFS", "EIO", "EFBIG", "ENAMETOOLONG"]


@pytest.fixture
def on_full_disk(command):
    """Run a command while no file may grow beyond 4 kB, as on a full disk."""

    def run(*arguments):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        try:
            return command(*arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return run


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("call", ["mkdir", "open", "rename"])
def test_a_refused_call_is_one_sentence_and_leaves_the_earlier_result(
    command, inputs, tmp_path, monkeypatch, name, call
):
    arguments = ["import-checkpoint", *inputs["import-checkpoint"][0], "--out", tmp_path / "out"]
    assert command(*arguments)[0] == 0
    before = tree(tmp_path)
    real, refused = getattr(os, call), []

    def refuse(path, *rest, **more):
        is_writing = call != "open" or (rest and rest[0] & os.O_CREAT)
        if ".sepsis-cql-tmp" in str(path) and is_writing and not refused:
            refused.append(path)
            raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)), str(path))
        return real(path, *rest, **more)

    def save(model, extractor, directory):
        with storage.new_file(directory / "model.safetensors"):
            pass

    monkeypatch.setattr(checkpoints, "new_directory", storage.new_directory)
    monkeypatch.setattr("sepsis_cql.checkpoints.hub_package.save_package", save)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        code, printed = command(*arguments, "--force")
    assert code == 2, printed
    assert os.strerror(getattr(errno, name)) in printed
    assert str(tmp_path / "out") in printed.replace("\n", "")
    assert "what was there before is as it was" in printed
    assert "sepsis-cql-tmp" not in printed.split("out")[0]
    assert tree(tmp_path) == before


@pytest.mark.parametrize("stage", ["synthesize", "import-checkpoint", "card"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(on_full_disk, inputs, tmp_path, stage):
    arguments = inputs[stage][0] if stage != "card" else ["--run", tmp_path / "inputs" / "run"]
    before = tree(tmp_path)
    code, printed = on_full_disk(stage, *arguments, "--out", tmp_path / "out")
    assert code == 2 and "Traceback" not in printed
    assert tree(tmp_path) == before
    if stage != "card":
        assert "File too large" in printed


def test_a_full_disk_under_the_engine_is_not_called_a_damaged_table(on_full_disk, mimic_root, tmp_path):
    code, printed = on_full_disk("build", "--mimic", mimic_root, "--out", tmp_path / "out")
    assert code == 2
    assert "Download the file again" not in printed
    assert "cannot be written" in printed
    assert [path.name for path in tmp_path.iterdir() if path != mimic_root] == []


def test_no_more_is_spilled_to_disk_than_allowed(command, mimic_root, tmp_path, monkeypatch):
    def spill(connection, further):
        connection.execute("SET memory_limit = '24MB'; SET threads = 1")
        connection.execute(
            "CREATE TEMP TABLE large AS SELECT random() AS a, random() AS b FROM range(3000000)"
        )

    monkeypatch.setattr("sepsis_cql.replay.build.create_concepts", spill)
    code, printed = command("build", "--mimic", mimic_root, "--out", tmp_path / "out", "--disk-limit", "2MB")
    assert code == 2
    assert "more disk with --disk-limit" in " ".join(printed.split())
    assert [path.name for path in tmp_path.iterdir() if path != mimic_root] == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (duckdb.IOException("Could not write file: No space left on device"), "Free space"),
        (duckdb.OutOfMemoryException("failed to allocate 8 bytes"), "Allow more with --memory-limit"),
        (
            OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"),
            "Free space",
        ),
        (OSError(errno.ELOOP, "x", "a"), "loop of symbolic links"),
        (OSError(errno.ENOSPC, "x", "from", None, "to"), "to: cannot be written"),
        (OSError(errno.EBUSY, "x", "a"), "a directory inside it"),
        (OSError(errno.EXDEV, "x", "a"), "that no image holds"),
        (OSError(errno.EMFILE, "x", "a"), "limit on open files"),
        (MemoryError("Unable to allocate 8. TiB"), "ran out of memory (Unable"),
        (MemoryError(), "Ask for less"),
        (np.linalg.LinAlgError("Singular matrix"), "absurd states"),
        (torch.linalg.LinAlgError("not positive-definite"), "absurd states"),
        (ValueError("No space left on device"), None),
        (FileNotFoundError(errno.ENOENT, "x", "a"), "Check the path"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_libraries_that_say_it_in_words_are_understood(error, said):
    sentence = storage.explain_failure(error)
    assert sentence is None if said is None else said in sentence


@pytest.mark.parametrize("place", ["/proc/out", "/dev/null/out", "/sys/out"])
def test_a_place_that_takes_no_files_is_refused_in_one_sentence(command, inputs, place):
    code, printed = command("import-checkpoint", *inputs["import-checkpoint"][0], "--out", place)
    assert code == 2 and "Traceback" not in printed


def test_a_state_directory_that_takes_no_files_is_refused_in_one_sentence(
    command, inputs, tmp_path, monkeypatch
):
    monkeypatch.setenv("SEPSIS_CQL_HOME", "/dev/null/home")
    code, printed = command("import-checkpoint", *inputs["import-checkpoint"][0], "--out", tmp_path / "out")
    assert code == 2 and "/dev/null/home" in printed


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000])
def test_deeply_nested_json_is_refused(tmp_path, text):
    (tmp_path / "deep.json").write_text(text)
    with pytest.raises(SepsisCQLError, match="nested too deeply"):
        read_json(tmp_path / "deep.json", expected="a record")


BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(i + 1)}: &{chr(i + 1)} [*{chr(i)}, *{chr(i)}]\n" for i in range(97, 121)
)


@pytest.mark.parametrize(
    "text", [BOMB, "a: " + "[" * 100_000, "a: 1\n" * 300_000, "a: 2020-13-45\n", "a: \0\n"]
)
def test_hostile_settings_are_refused(command, tmp_path, text):
    (tmp_path / "mine.yaml").write_text(text)
    code, printed = command("synthesize", "--config", tmp_path / "mine.yaml", "--out", tmp_path / "out")
    assert code == 2 and "mine.yaml" in printed
    assert list(tmp_path.iterdir()) == [tmp_path / "mine.yaml"]


def test_a_file_too_large_for_what_it_is_is_not_read(tmp_path):
    with (tmp_path / "large.json").open("wb") as stream:
        stream.truncate(4 * 2**30)
    with pytest.raises(SepsisCQLError, match="are plausible"):
        read_json(tmp_path / "large.json", expected="a record")


IN_THE_ENGINE = """
import contextlib, sys, types
import duckdb
from sepsis_cql.commands import app
from sepsis_cql.replay.mimic import concepts, tables
@contextlib.contextmanager
def opened(*arguments, **more):
    # of several threads another could have the one task of this query, which no Ctrl-C ends before the task does
    yield types.SimpleNamespace(connection=duckdb.connect(config={"threads": 1}), concepts=())
def work(connection, further=()):
    print("working", flush=True)
    connection.execute("SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b").fetchall()
tables.open_mimic, concepts.create_concepts = opened, work
sys.argv = ["sepsis-cql", "concepts", "--mimic", sys.argv[1], "--out", sys.argv[2]]
app.main()
"""
IN_PYTHON = IN_THE_ENGINE.replace("connection.execute(", "import time; time.sleep(60) or str(")


@pytest.mark.parametrize("program", [IN_THE_ENGINE, IN_PYTHON], ids=["in the engine", "in Python"])
def test_ctrl_c_is_one_line_and_130(tmp_path, program):
    mimic = tmp_path / "mimic"
    for module in ("hosp", "icu"):
        (mimic / module).mkdir(parents=True)
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(mimic), str(tmp_path / "out")],
        env=here(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert printed == "interrupted. Nothing half-written is left.\n"
    assert list(tmp_path.iterdir()) == [mimic]


@pytest.fixture
def mimic_root(tmp_path_factory):
    return six_septic_patients().write(Path(tmp_path_factory.mktemp("root")))
