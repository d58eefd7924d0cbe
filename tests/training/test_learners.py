"""Learners share one contract; a new one is a class and a line, and its package says what it is."""

from typing import Literal

import pytest
import torch

from sepsis_cql.benchmarks.learners import render_beside, render_speed
from sepsis_cql.checkpoints.hub_package import load_package
from sepsis_cql.checkpoints.original_pt import model_from_checkpoint, read_original_checkpoint
from sepsis_cql.common.errors import SettingsError, TrainingError
from sepsis_cql.common.provenance import ROOT
from sepsis_cql.common.storage import read_json
from sepsis_cql.common.strict import find_settings
from sepsis_cql.training.learners.base import Learner
from sepsis_cql.training.learners.behavior_cloning import BehaviorCloning
from sepsis_cql.training.learners.cql import ConservativeQLearning
from sepsis_cql.training.learners.registry import LEARNERS, load_training_settings
from sepsis_cql.training.run import Run, train_runs
from sepsis_cql.training.settings import TrainingSettings
from sepsis_cql.training.step.device_buffer import DeviceBuffer
from sepsis_cql.training.step.network import TrainableNetwork

from .made_up import CPU, RUNTIME, make_data, make_settings


class MonteCarloSettings(TrainingSettings):
    algorithm: Literal["monte_carlo"]
    scale: float


class MonteCarlo(Learner):
    """Regresses the outputs of the doses that were given on the reward: a learner of ten lines."""

    settings, outputs = MonteCarloSettings, "values"

    def prepare(self, settings):
        self.scale = settings[0].scale

    def losses(self, outputs, rows):
        given = outputs.gather(-1, self.buffer.actions[rows].unsqueeze(-1)).squeeze(-1)
        error = given - self.scale * self.rewards.gather(-1, rows)
        return {"total_loss": error.square().mean(dim=-1), "mean_value": outputs.mean(dim=(-2, -1))}


class AutogradCQL(ConservativeQLearning):
    """CQL as somebody would write it who derives nothing by hand."""

    def losses(self, outputs, rows):
        given = outputs.gather(-1, self.buffer.actions[rows].unsqueeze(-1)).squeeze(-1)
        td_loss = (given - self._targets.gather(-1, rows)).square().mean(dim=-1)
        conservative_loss = (outputs.logsumexp(dim=-1) - given).mean(dim=-1)
        total_loss = td_loss + self._alpha.view(td_loss.shape) * conservative_loss
        names = ("td_loss", "conservative_loss", "total_loss", "mean_q")
        return dict(
            zip(names, (td_loss, conservative_loss, total_loss, outputs.mean(dim=(-2, -1))), strict=True)
        )

    losses_and_gradient = Learner.losses_and_gradient


@pytest.fixture(params=["cql", "behavior_cloning", "iql", "ai_clinician", "monte_carlo"])
def settings(request, monkeypatch):
    monkeypatch.setitem(LEARNERS, "monte_carlo", MonteCarlo)
    own = {"scale": 0.1} if request.param == "monte_carlo" else {}
    return make_settings(request.param, epochs=20, **own)


class StopError(Exception):
    pass


def train(out, *settings, seen=None, stop=None):
    def report(progress):
        if seen is not None:
            seen.append(progress.losses[0])
        if progress.epoch == stop:
            raise StopError

    runs = [Run(one, out / str(index) if settings[1:] else out) for index, one in enumerate(settings)]
    return train_runs(runs, make_data(), RUNTIME, checkpoints=out / "checkpoints", report=report)


def test_a_learner_learns_repeats_itself_and_resumes_to_the_same_bits(tmp_path, settings):
    settings = settings.model_copy(update={"learning_rate": 0.005})
    seen = []
    (record,) = train(tmp_path / "whole", settings, seen=seen)
    assert seen[-1]["total_loss"] < 0.9 * seen[0]["total_loss"]
    assert record.settings == settings
    assert record.losses == seen[-1]
    with pytest.raises(StopError):
        train(tmp_path / "stopped", settings, stop=9)
    (resumed,) = train(tmp_path / "stopped", settings)
    assert resumed.resumed_from_epoch == 8
    assert resumed.weights_sha256 == record.weights_sha256


def test_package_checkpoint_and_manifest_name_the_learner_and_what_its_outputs_are(tmp_path, settings):
    (record,) = train(tmp_path / "run", settings)
    config = load_package(tmp_path / "run" / "package").config
    expected = (settings.algorithm, LEARNERS[settings.algorithm].outputs)
    assert (config.algorithm, config.outputs) == expected
    (file,) = (tmp_path / "run" / "model").glob("*.pt")
    assert file.name == f"{settings.algorithm}_epoch0020_step{record.global_step:07d}.pt"
    manifest = read_json(file.with_name(f"{file.stem}_manifest.json"), expected="")
    assert (manifest["algorithm"], manifest["outputs"]) == expected
    reread = model_from_checkpoint(read_original_checkpoint(file)).config
    assert (reread.algorithm, reread.outputs) == expected


def test_nothing_a_cloning_run_leaves_is_labelled_cql(tmp_path):
    train(tmp_path / "run", make_settings("behavior_cloning"))
    config = load_package(tmp_path / "run" / "package").config
    assert (config.outputs, config.alpha, config.gamma) == ("logits", None, None)
    for file in (tmp_path / "run").rglob("*"):
        assert not file.name.startswith("cql")
        if file.suffix in (".json", ".yaml", ".jsonl"):
            kept = (
                file.read_text()
            )  # names of this package, and a field of the original layout that is empty here
            for name in ("sepsis_cql", "sepsis-cql", '"cql_alpha": null'):
                kept = kept.replace(name, "")
            assert "cql" not in kept.lower().replace("sepsiscql", ""), file
    model = load_package(tmp_path / "run" / "package")
    assert model(torch.tensor(make_data().transitions.states)).q_values is None


@pytest.mark.parametrize("n_models", [1, 3])
def test_automatic_differentiation_gives_the_closed_gradient_of_cql(n_models):
    closed, derived = (new_learner(kind, n_models) for kind in (ConservativeQLearning, AutogradCQL))
    rows = torch.arange(40).expand(n_models, 40) if n_models > 1 else torch.arange(40)
    outputs = torch.randn(*rows.shape, 25, dtype=torch.float64) * 5
    with torch.no_grad():  # as in the loop
        (losses, gradient), (expected, closed_gradient) = (
            learner.losses_and_gradient(outputs, rows) for learner in (derived, closed)
        )
    torch.testing.assert_close(gradient, closed_gradient, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=1e-14)
    assert not gradient.requires_grad


@pytest.mark.parametrize("n_runs", [1, 3])
def test_a_whole_run_by_automatic_differentiation_ends_with_the_same_weights(tmp_path, monkeypatch, n_runs):
    runs = [make_settings(alpha=alpha) for alpha in (0.1, 1.0, 3.0)[:n_runs]]
    closed = train(tmp_path / "closed", *runs)
    monkeypatch.setitem(LEARNERS, "cql", AutogradCQL)
    for index, expected in enumerate(train(tmp_path / "derived", *runs)):
        assert closed[index].losses == pytest.approx(expected.losses, rel=1e-4)


def test_the_gradient_of_cloning_is_that_of_the_cross_entropy():
    learner = new_learner(BehaviorCloning, 1)
    rows = torch.arange(40)
    outputs = torch.randn(40, 25, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(outputs, learner.buffer.actions[rows])
    expected.backward()
    losses, gradient = learner.losses_and_gradient(outputs.detach(), rows)
    torch.testing.assert_close(losses["total_loss"], expected.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, outputs.grad, rtol=1e-12, atol=1e-15)


def test_runs_that_may_not_train_together_are_refused(tmp_path):
    with pytest.raises(
        TrainingError, match=r"may differ only in \['learning_rate', 'reward_variant', 'seed'\]"
    ):
        train(tmp_path, *(make_settings("behavior_cloning", batch_size=size) for size in (16, 32)))


@pytest.mark.parametrize("name", [*LEARNERS])
def test_the_shipped_settings_of_every_learner_load(name):
    settings = load_training_settings(find_settings(name))
    assert type(settings) is LEARNERS[settings.algorithm].settings


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "behavior_cloning",
            {"alpha": 0.5},
            r"behavior_cloning\.yaml: alpha: Extra inputs are not permitted",
        ),
        ("cql", {"algorithm": "behavior_cloning"}, r"cql\.yaml: alpha: Extra inputs.*; gamma: Extra"),
        ("behavior_cloning", {"algorithm": "cql"}, r"alpha: Field required"),
        (
            "cql",
            {"algorithm": "sac"},
            r"algorithm: found 'sac', expected one of \['ai_clinician', 'bcq', 'behavior_cloning', 'cql', ",
        ),
    ],
)
def test_settings_of_another_learner_are_refused_by_name(name, changes, message):
    with pytest.raises(SettingsError, match=message):
        load_training_settings(find_settings(name), changes)


def new_learner(kind, n_models):
    """A learner in double precision on the made-up transitions."""
    data = make_data()
    states = torch.tensor(data.transitions.states[:, :5], dtype=torch.float64)
    networks = []
    for seed in range(n_models):
        torch.manual_seed(seed)
        networks.append(torch.nn.Sequential(torch.nn.Linear(5, 25)).double())
    buffer = DeviceBuffer(
        states,
        states.roll(-1, 0),
        torch.tensor(data.transitions.actions),
        torch.tensor(data.transitions.terminals),
    )
    rewards = torch.tensor(data.rewards["sparse"]).expand(n_models, -1).clone()
    alphas = [0.05, 0.5, 5.0][:n_models]
    return kind(
        TrainableNetwork(networks, [1e-3] * n_models, grad_clip=10.0, device=CPU),
        buffer,
        rewards if n_models > 1 else rewards[0],
        [make_settings(alpha=alpha) for alpha in alphas],
    )


@pytest.mark.parametrize(("render", "lines"), [(render_beside, 4 + 2), (render_speed, 2 * (12 + 2))])
def test_the_page_tells_what_was_found_beside_d3rlpy(render, lines):
    section = render()
    assert "\n".join(section) in (ROOT / "docs/learners.md").read_text()
    assert (
        len([line for line in section if line.startswith("| ")]) == lines
    )  # with heading and rule of each table
