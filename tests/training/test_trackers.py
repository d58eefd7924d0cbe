"""Trackers get the losses of every epoch; one that is not installed is named."""

import importlib.util
import platform
import subprocess
import sys

import pytest

from sepsis_cql.common.errors import TrainingError
from sepsis_cql.training.loop import Progress
from sepsis_cql.training.trackers import open_tracker

EPOCHS = [Progress(epoch, 2, epoch, [{"td_loss": 1.0 / epoch}], 1.0) for epoch in (1, 2)]


@pytest.mark.parametrize("tracker", ["tensorboard", "trackio", "wandb"])
def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch, tracker):
    for module in ("torch.utils.tensorboard", "trackio", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    with (
        pytest.raises(TrainingError, match=rf"--log-to {tracker}: not installed.*sepsis-cql\[{tracker}\]"),
        open_tracker(tracker, tmp_path),
    ):
        pass


def test_tensorboard_gets_every_epoch(tmp_path):
    if importlib.util.find_spec("tensorboard") is None:
        pytest.skip("TensorBoard is not installed: pip install 'sepsis-cql[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with open_tracker("tensorboard", tmp_path) as log:
        for progress in EPOCHS:
            log(progress)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("losses/td_loss")] == [(1, 1.0), (2, 0.5)]


def test_trackio_gets_every_epoch(tmp_path, monkeypatch):
    if importlib.util.find_spec("trackio") is None:
        pytest.skip("trackio is not installed: pip install 'sepsis-cql[trackio]'")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    import trackio

    with open_tracker("trackio", tmp_path / "run") as log:
        for progress in EPOCHS:
            log(progress)
    (run,) = trackio.Api().runs("sepsis-cql")
    assert run.name == "run"
    assert list((tmp_path / "trackio").glob("*sepsis-cql*"))


def test_wandb_gets_every_epoch_and_nothing_of_the_machine(tmp_path, monkeypatch):
    if importlib.util.find_spec("wandb") is None:
        pytest.skip("Weights & Biases is not installed: pip install 'sepsis-cql[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    out = tmp_path / "run"
    with open_tracker("wandb", out) as log:
        out.mkdir()  # as a run does, in which nothing may lie before
        for progress in EPOCHS:
            log(progress)
    (file,) = out.glob("wandb/offline-run-*/*.wandb")
    content = file.read_bytes()
    assert content.count(b"td_loss") >= len(EPOCHS) and b"0.5" in content
    for elsewhere in (platform.node(), sys.executable, str(tmp_path), "test_trackers"):
        assert elsewhere.encode() not in content


def test_wandb_without_a_login_is_refused_before_training(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="Weights & Biases is not installed: pip install 'sepsis-cql[wandb]'")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    code = (
        "from pathlib import Path; from sepsis_cql.training.trackers import open_tracker\n"
        f"with open_tracker('wandb', Path({str(tmp_path / 'run')!r})): pass"
    )
    ended = subprocess.run(  # a process remembers how it logged in
        [sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120
    )
    assert (
        "TrainingError: --log-to wandb: No API key" in ended.stderr and "WANDB_MODE=offline" in ended.stderr
    )
    assert not (tmp_path / "run").exists()
