"""What bfloat16 matrix products change: the true value of the trained policy on ICU-Sepsis.

    python benchmarks/reduced_precision.py --out DIR

trains the published recipe on simulated episodes in float32 with two seeds and in bfloat16 with the first, and
values each greedy policy exactly. The difference between the seeds says how large a difference is noise.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sepsis_cql.benchmarks.published_recipe import q_network
from sepsis_cql.common.storage import write_json
from sepsis_cql.common.strict import SHIPPED, load_shipped
from sepsis_cql.evaluation.known_truth.icu_sepsis import TabularIcu, load_icu_sepsis
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.replay.transitions import Transitions
from sepsis_cql.training.learners.cql import ConservativeQLearning, CQLSettings
from sepsis_cql.training.learners.registry import load_training_settings
from sepsis_cql.training.step.device_buffer import DeviceBuffer, epoch_order
from sepsis_cql.training.step.network import TrainableNetwork

N_EPISODES, EPOCHS, BATCH = 12_062, 200, 4096  # as published
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--alphas", type=float, nargs="+", default=[0.05, 0.5])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    rules = load_shipped(EvaluationSettings, "evaluation.yaml")
    icu = load_icu_sepsis(rules.gamma, rules.bound)
    data = icu.simulate(N_EPISODES, seed=0)
    rows = []
    for alpha in arguments.alphas:
        policies = [
            train(data, icu, alpha, arguments.epochs, seed, reduced_precision=reduced)
            for seed, reduced in ((1, False), (2, False), (1, True))
        ]
        rows.append({"alpha": alpha, "epochs": arguments.epochs} | compare(icu, *policies))
        print(rows[-1], flush=True)
    write_json(arguments.out / "reduced_precision.json", rows)


@torch.no_grad()
def train(
    data: Transitions, icu: TabularIcu, alpha: float, epochs: int, seed: int, *, reduced_precision: bool
) -> np.ndarray:
    """(S,) greedy doses of a policy trained by the published schedule with learning rate 1e-4."""
    network = TrainableNetwork(
        [q_network(data.states.shape[1], seed)],
        [1e-4],
        grad_clip=10.0,
        device=CPU,
        reduced_precision=reduced_precision,
    )
    buffer = DeviceBuffer(
        states=torch.tensor(data.states).to(network.inputs_dtype),
        next_states=torch.tensor(data.next_states),
        actions=torch.tensor(data.actions),
        terminals=torch.tensor(data.terminals),
    )
    rewards = torch.tensor(data.rewards, dtype=torch.float32)
    settings = load_training_settings(SHIPPED / "cql.yaml", {"alpha": alpha, "gamma": icu.gamma})
    assert isinstance(settings, CQLSettings)
    learner = ConservativeQLearning(network, buffer, rewards, [settings])
    for epoch in range(1, epochs + 1):
        for rows in epoch_order(seed, epoch, len(data)).split(BATCH):
            learner.update(rows)
        learner.end_epoch(epoch)
    return network.outputs_with(network.weights, torch.tensor(icu.features)).argmax(dim=1).numpy()


def compare(icu: TabularIcu, first: np.ndarray, second: np.ndarray, reduced: np.ndarray) -> dict[str, Any]:
    """True values, and the share of states whose greedy dose differs from the first policy's."""
    live = ~icu.terminal
    n_actions = icu.clinicians.shape[1]
    values = [icu.true_value(np.eye(n_actions)[policy]) for policy in (first, second, reduced)]
    return {
        "true value, float32": round(values[0], 3),
        "true value, float32, another seed": round(values[1], 3),
        "true value, bfloat16": round(values[2], 3),
        "states with another dose, another seed": round(float((first != second)[live].mean()), 3),
        "states with another dose, bfloat16": round(float((first != reduced)[live].mean()), 3),
        "true value, clinicians": round(icu.true_value(icu.clinicians), 3),
    }


if __name__ == "__main__":
    main()
