"""Two Ray nodes on loopback give the results one machine gives."""

import os

import pytest
import torch

from sepsis_cql.training.ray_engine import run_on_ray
from sepsis_cql.training.stacks import SCORES, Stack, run_locally
from sepsis_cql.training.train import Run

from .made_up import RUNTIME, SETTINGS

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'sepsis-cql[ray]'")


def score_on_node(model):
    """The scores of an epoch, and the node that made them."""
    value = float(model.net[0].weight.detach().norm())
    if model.config.alpha == 9.0:
        os._exit(1)
    names = ("fqe", "fqe_lower", "fqe_upper", "ess", "published_fqe", "published_wis", "published_ess")
    node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "here"
    return dict.fromkeys(names, value) | {
        "softening": "greedy",
        "passes_gates": True,
        "gates": [node],
        "n_episodes": 7,
    }


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = cluster.address
    yield cluster
    del os.environ["RAY_ADDRESS"]
    ray.shutdown()
    cluster.shutdown()


def make_stacks(replay, out, alphas):
    return [
        Stack(
            runs=[Run(SETTINGS.model_copy(update={"alpha": alpha}), out / f"alpha{alpha}")],
            checkpoints=out / f"checkpoints{alpha}",
            replay=replay,
            reward_variants=["sparse"],
            runtime=RUNTIME,
            scorer=score_on_node,
        )
        for alpha in alphas
    ]


def scores_without_node(stack):
    text = (stack.runs[0].out / SCORES).read_text()
    return [line for line in text.splitlines() if not line.startswith("      ")]


def test_two_nodes_give_the_results_of_one_machine_and_a_dead_worker_fails_alone(
    cluster, demo_replay, tmp_path
):
    torch.set_num_threads(1)
    here = make_stacks(demo_replay, tmp_path / "here", [0.1, 0.5, 1.0, 2.0])
    assert all(not failures for _, failures in run_locally(here, lambda stack, progress: None))
    there = make_stacks(demo_replay, tmp_path / "there", [0.1, 0.5, 1.0, 2.0, 9.0])
    failures = {
        stack.runs[0].out.name: found for stack, found in run_on_ray(there, lambda stack, progress: None)
    }
    assert [name for name, found in failures.items() if found] == ["alpha9.0"]
    assert not (there[-1].runs[0].out / SCORES).exists()
    nodes = set()
    for local, remote in zip(here, there, strict=False):
        assert scores_without_node(local) == scores_without_node(remote)
        nodes |= {
            line
            for line in (remote.runs[0].out / SCORES).read_text().splitlines()
            if line.startswith("      ")
        }
    assert len(nodes) == 2
