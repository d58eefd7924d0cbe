"""Whatever ends a run early, it continues to the very same weights."""

import errno
import os
import random
import resource
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sepsis_cql.commands.app import main
from sepsis_cql.common.errors import TrainingError
from sepsis_cql.common.ownership import TEMPORARY
from sepsis_cql.common.storage import read_json
from sepsis_cql.replay.interop.exports import write_original
from sepsis_cql.training import checkpoint, outputs
from sepsis_cql.training.loop import explain_write_errors
from sepsis_cql.training.run import Run, train_runs

from ..forked import CONTEXT, Fork
from .made_up import RUNTIME, SETTINGS, make_data, make_transitions


def train(out, report=lambda progress: None):
    run = Run(SETTINGS, out)
    return train_runs([run], make_data(), RUNTIME, checkpoints=out / "checkpoints", report=report)[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    torch.set_num_threads(1)
    return train(tmp_path_factory.mktemp("whole") / "run").weights_sha256


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def half_written_checkpoint(monkeypatch):
    write = Path.write_bytes

    def write_half(path, content):
        write(path, content[: len(content) // 2])
        if "epoch_0004" in path.name:
            die()
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", write_half)


def checkpoint_before_its_rename(monkeypatch):
    move = Path.replace
    monkeypatch.setattr(
        Path, "replace", lambda path, to: die() if "epoch_0004" in path.name else move(path, to)
    )


def before_old_checkpoints_are_removed(monkeypatch):
    listed = checkpoint.list_checkpoints

    def list_and_die(directory):
        files = listed(directory)
        return die() if len(files) == 3 else files

    monkeypatch.setattr(checkpoint, "list_checkpoints", list_and_die)


def before_the_package(monkeypatch):
    monkeypatch.setattr(outputs, "save_package", lambda *args: die())


def before_the_record(monkeypatch):
    monkeypatch.setattr(outputs, "write_json", lambda *args: die())


@pytest.mark.parametrize(
    "moment",
    [
        half_written_checkpoint,
        checkpoint_before_its_rename,
        before_old_checkpoints_are_removed,
        before_the_package,
        before_the_record,
    ],
    ids=lambda moment: moment.__name__,
)
def test_a_run_killed_at_this_moment_resumes_to_the_same_weights(whole, tmp_path, monkeypatch, moment):
    with monkeypatch.context() as patched:
        moment(patched)
        process = CONTEXT.Process(target=train, args=(tmp_path / "run",))
        process.start()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "run" / "training.json").exists()
    record = train(tmp_path / "run")
    assert record.weights_sha256 == whole
    assert record.losses["td_loss"] > 0
    assert record.resumed_from_epoch >= 2
    left = sorted(file.name for file in (tmp_path / "run" / "checkpoints").iterdir())
    assert left[-2:] == ["epoch_0004.safetensors", "epoch_0006.safetensors"]


@pytest.mark.parametrize("delay", [random.uniform(0.0, 0.3) for _ in range(4)], ids=lambda delay: "")
def test_a_run_killed_at_a_random_time_resumes_to_the_same_weights(whole, tmp_path, delay):
    process = CONTEXT.Process(target=train, args=(tmp_path / "run",))
    process.start()
    time.sleep(delay)
    process.kill()
    process.join()
    assert train(tmp_path / "run").weights_sha256 == whole, f"killed after {delay} s"


def limit_file_size(out):
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, resource.RLIM_INFINITY))


def fill_the_device_of_the_log(out):
    (out / "metrics.jsonl").rename(out / "kept.jsonl")
    (out / "metrics.jsonl").symlink_to("/dev/full")


@pytest.mark.parametrize(
    ("fill", "message"),
    [(limit_file_size, "File too large"), (fill_the_device_of_the_log, "No space left on device")],
)
def test_a_full_disk_leaves_the_last_good_checkpoint(whole, tmp_path, fill, message):
    out = tmp_path / "run"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(TrainingError, match=rf"cannot write \({message}\).*--resume.*epoch_0002"):
            train(out, report=lambda progress: fill(out) if progress.epoch == 3 else None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (newest,) = (out / "checkpoints").iterdir()
    assert load_file(newest)["weights"].isfinite().all()
    if (out / "kept.jsonl").exists():
        (out / "kept.jsonl").replace(out / "metrics.jsonl")
    assert train(out).weights_sha256 == whole


def test_the_place_is_named_and_not_what_is_gone_when_the_message_is_read(tmp_path):
    """As where an audit trains shadows, which no --resume goes on with."""
    inside = tmp_path / f"{TEMPORARY}1-audit" / f"{TEMPORARY}2" / "checkpoints"
    with pytest.raises(TrainingError) as refusal, explain_write_errors(inside):
        raise OSError(errno.ENOSPC, "No space left on device", str(inside / "epoch_0006.safetensors"))
    said = str(refusal.value)
    assert said.startswith(f"{tmp_path}: cannot write (No space left on device).") and TEMPORARY not in said
    assert "run the command again" in said


@pytest.mark.slow
def test_the_command_survives_ctrl_c_and_kills_and_ends_with_the_same_weights(tmp_path):
    replay = tmp_path / "replay.parquet"
    write_original(make_transitions(), replay)
    options = [f"--replay={replay}", "--set=training.batch_size=4", "--set=training.epochs=18"]
    options += ["--set=training.checkpoint_epochs=3", "--set=runtime.threads=1", "--set=runtime.device=cpu"]

    def start(*more):
        return Fork(main, tmp_path, ["sepsis-cql", "train", *options, *more])

    code, text = start(f"--out={tmp_path / 'whole'}").wait()
    assert code == 0, text
    out = tmp_path / "run"
    for stop, more in ((signal.SIGINT, []), (signal.SIGKILL, ["--resume"])):
        fork = start(f"--out={out}", *more)
        before = checkpoint.list_checkpoints(out / "checkpoints")
        while fork.process.is_alive() and checkpoint.list_checkpoints(out / "checkpoints") == before:
            time.sleep(0.02)
        os.kill(fork.process.pid, stop)
        code, text = fork.wait()
        assert code == (130 if stop is signal.SIGINT else -signal.SIGKILL), text
        assert stop is signal.SIGKILL or "Continue with --resume" in text
    code, text = start(f"--out={out}", "--resume").wait()
    assert code == 0, text
    records = [read_json(path / "training.json", expected="") for path in (tmp_path / "whole", out)]
    assert records[0]["weights_sha256"] == records[1]["weights_sha256"]
    assert records[1]["resumed_from_epoch"] > 0
