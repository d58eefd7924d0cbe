"""Two Ray nodes on loopback give the results one machine gives."""

import os

import pytest
import torch

from sepsis_cql.training.sweep.jobs import SCORES, read_scores, run_locally
from sepsis_cql.training.sweep.on_ray import run_on_ray

from .made_up import make_jobs, make_score

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'sepsis-cql[ray]'")


def score_on_node(model):
    """The scores of an epoch, and the node that made them."""
    value = float(model.net[0].weight.detach().norm())
    if model.config.alpha == 9.0:
        os._exit(1)
    node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "here"
    return make_score(value, gates=[node])


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


def scores_and_nodes(job):
    scores = read_scores(job.runs[0]).scores
    return [score.model_copy(update={"gates": []}) for score in scores], {score.gates[0] for score in scores}


def test_two_nodes_give_the_results_of_one_machine_and_a_dead_worker_fails_alone(
    cluster, demo_replay, tmp_path
):
    torch.set_num_threads(1)
    here = make_jobs(demo_replay, tmp_path / "here", score_on_node, 0.1, 0.5, 1.0, 2.0)
    assert all(not failures for _, failures in run_locally(here, lambda job, progress: None))
    there = make_jobs(demo_replay, tmp_path / "there", score_on_node, 0.1, 0.5, 1.0, 2.0, 9.0)
    failures = {job.runs[0].out.name: found for job, found in run_on_ray(there, lambda job, progress: None)}
    assert [name for name, found in failures.items() if found] == ["alpha9.0"]
    assert not (there[-1].runs[0].out / SCORES).exists()
    nodes = set()
    for local, remote in zip(here, there, strict=False):
        (expected, _), (found, used) = scores_and_nodes(local), scores_and_nodes(remote)
        assert found == expected
        nodes |= used
    assert len(nodes) == 2
