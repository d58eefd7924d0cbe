"""Learners share one contract, and the comparators do what they are compared for."""

import numpy as np
import pytest
import torch

from sepsis_cql.configs.loading import load_settings
from sepsis_cql.packages import load_package
from sepsis_cql.training.behavior_cloning import BehaviorCloning
from sepsis_cql.training.buffer import ResidentBuffer
from sepsis_cql.training.network import TrainableNetwork
from sepsis_cql.training.settings import TrainingSettings
from sepsis_cql.training.tabular import fit_tabular_policy, solve_counts
from sepsis_cql.training.train import Run, train_runs

from .made_up import CPU, RUNTIME, SETTINGS, make_data, make_transitions

LEARNERS = ["cql", "behavior_cloning"]


class StopError(Exception):
    pass


def train(out, algorithm, seen=None, stop=None):
    def report(progress):
        if seen is not None:
            seen.append(progress.losses[0])
        if progress.epoch == stop:
            raise StopError

    run = Run(SETTINGS.model_copy(update={"algorithm": algorithm, "epochs": 20}), out)
    return train_runs([run], make_data(), RUNTIME, checkpoints=out / "checkpoints", report=report)[0]


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_a_learner_learns_repeats_itself_and_resumes_to_the_same_bits(tmp_path, algorithm):
    losses = []
    record = train(tmp_path / "whole", algorithm, seen=losses)
    first = next(iter(losses[0]))  # td_loss, cross_entropy
    assert losses[-1][first] < 0.9 * losses[0][first]
    assert record["algorithm"] == algorithm
    assert record["losses"] == losses[-1]
    with pytest.raises(StopError):
        train(tmp_path / "stopped", algorithm, stop=9)
    assert train(tmp_path / "stopped", algorithm)["weights_sha256"] == record["weights_sha256"]
    assert load_package(tmp_path / "whole" / "package").config.alpha == SETTINGS.alpha


def test_the_written_cloning_gradient_equals_automatic_differentiation():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 25)).double()
    states, actions = torch.randn(40, 5).double(), torch.randint(0, 25, (40,))
    expected = torch.nn.functional.cross_entropy(net(states), actions)
    expected.backward()
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in net.parameters()])
    learner = BehaviorCloning(
        TrainableNetwork([net], [1e-3], grad_clip=10.0, device=CPU),
        ResidentBuffer(states, states, actions, actions > 0),
    )
    with torch.no_grad():
        losses = learner.update(torch.arange(40))
    assert float(losses.cross_entropy) == pytest.approx(expected.item(), rel=1e-12)
    assert float(losses.gradient_norm) == pytest.approx(float(norm), rel=1e-12)


def test_the_shipped_settings_of_every_learner_load():
    for name in LEARNERS:
        assert load_settings(TrainingSettings, f"{name}.yaml").algorithm == name


def test_values_of_a_table_known_on_paper():
    # cluster 0: dose 1 leads to cluster 1, dose 2 ends with 3; cluster 1: dose 4 ends with 10 or -2
    before, actions = np.array([0, 0, 1, 1]), np.array([1, 2, 4, 4])
    rewards, after = np.array([0.0, 3.0, 10.0, -2.0]), np.array([1, 0, 1, 1])
    terminals = np.array([False, True, True, True])
    q_values = solve_counts(before, actions, rewards, after, terminals, 2, min_count=1, gamma=0.5)
    assert (q_values[0, 1], q_values[0, 2], q_values[1, 4]) == (2.0, 3.0, 4.0)
    assert np.isneginf(q_values).sum() == 47


def test_a_dose_given_too_rarely_is_not_considered_but_every_cluster_has_one():
    before, actions = np.zeros(4, dtype=int), np.array([1, 1, 1, 2])
    rewards, terminals = np.array([0.0, 0.0, 0.0, 15.0]), np.ones(4, dtype=bool)
    q_values = solve_counts(before, actions, rewards, before, terminals, 1, min_count=3, gamma=0.99)
    assert q_values.argmax() == 1
    assert solve_counts(before, actions, rewards, before, terminals, 1, 9, 0.99).argmax() == 1


def test_the_tabular_policy_gives_one_dose_that_clinicians_gave():
    data = make_transitions(n_stays=300)
    policy = fit_tabular_policy(data, lambda states: states, n_clusters=5, seed=1)
    probabilities = policy.probabilities(data.states)
    assert probabilities.shape == (len(data), 25)
    assert set(np.unique(probabilities)) == {0.0, 1.0}
    assert (probabilities.sum(axis=1) == 1).all()
    assert set(probabilities.argmax(axis=1)) <= set(data.actions)
