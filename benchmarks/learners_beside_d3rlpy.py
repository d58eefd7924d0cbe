"""True values of the policies that learners of this package and of d3rlpy find on the same ICU-Sepsis episodes.

    python benchmarks/learners_beside_d3rlpy.py --out DIR [--seeds 5] [--steps 3000]

needs d3rlpy (`benchmarks/requirements.txt`). Both have networks of two layers of 256, batches of 256, the same first
weights, rewards, discount, rate and number of updates, and copy target networks equally often; BCQ's follows in ours,
as in its paper. Each policy is greedy and its value exact, so that what differs is chance between seeds or the learner.
Rewards of `dqn` are scaled, on both sides, so that no error leaves the part where d3rlpy's Huber loss is a square, as
the loss here is.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import d3rlpy
import numpy as np
import torch
from scipy.stats import ttest_ind

from sepsis_cql.benchmarks.contenders import Columns
from sepsis_cql.benchmarks.learners_speed import (
    PAIRS,
    Pair,
    make_dataset,
    new_ours,
    new_theirs,
    start_alike,
)
from sepsis_cql.benchmarks.selection import widen
from sepsis_cql.common.provenance import package_versions
from sepsis_cql.common.storage import write_json
from sepsis_cql.evaluation.known_truth.icu_sepsis import TabularIcu, load_icu_sepsis
from sepsis_cql.modeling_sepsis_cql import is_supported
from sepsis_cql.training.learners.base import Learner

EPISODES, BATCH, COPIED_EVERY = 1500, 256, 500
SCALES = {"dqn": 1 / 50}  # of rewards
Greedy = Callable[[torch.Tensor], np.ndarray]  # (n, 62) states to (n,) actions


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3000)
    arguments = parser.parse_args()
    icu = load_icu_sepsis(0.99, 15.0)
    episodes = icu.simulate(EPISODES, seed=1)
    columns: Columns = (
        torch.from_numpy(widen(episodes.states)),
        torch.from_numpy(episodes.actions),
        torch.from_numpy(episodes.rewards.astype(np.float32)),
        torch.from_numpy(widen(episodes.next_states)),
        torch.from_numpy(episodes.terminals),
    )
    result: dict[str, Any] = {
        "versions": package_versions("torch", "d3rlpy", "icu-sepsis"),
        "episodes": EPISODES,
        "updates": arguments.steps,
        "clinicians": icu.true_value(icu.clinicians),
    }
    for pair in PAIRS:
        states, actions, rewards, next_states, terminals = columns
        scaled = states, actions, rewards * SCALES.get(pair.name, 1.0), next_states, terminals
        found: dict[str, list[float]] = {"ours": [], "d3rlpy": []}
        for seed in range(arguments.seeds):
            found["ours"].append(true_value(icu, train_ours(pair, scaled, arguments.steps, seed)))
            found["d3rlpy"].append(true_value(icu, train_theirs(pair, scaled, arguments.steps, seed)))
        test = ttest_ind(found["ours"], found["d3rlpy"], equal_var=False)
        interval = test.confidence_interval()
        result[pair.name] = found | {"difference": [float(interval.low), float(interval.high)]}
        print(pair.name, result[pair.name])
    write_json(arguments.out / "learners_beside_d3rlpy.json", result)


def true_value(icu: TabularIcu, greedy: Greedy) -> float:
    """Return the exact value of a greedy policy; in terminal states nobody acts."""
    table = np.full(icu.clinicians.shape, 1 / icu.clinicians.shape[1])
    live = ~icu.terminal
    chosen = greedy(torch.from_numpy(widen(icu.features[live])))
    table[live] = np.eye(icu.clinicians.shape[1])[chosen]
    return icu.true_value(table)


def train_ours(pair: Pair, columns: Columns, steps: int, seed: int) -> Greedy:
    """Train our learner and return its choice."""
    torch.manual_seed(seed)
    learner = new_ours(pair._replace(changes=pair.changes | {"seed": seed}), columns, first_seed=10 * seed)
    with torch.no_grad():
        for step in range(1, steps + 1):
            learner.update(torch.randint(len(columns[0]), (BATCH,)))
            if step % COPIED_EVERY == 0:
                learner.end_epoch(0)  # of the number of every epoch at which targets are copied
    return lambda states: choose(learner, states)


@torch.no_grad()
def choose(learner: Learner, states: torch.Tensor) -> np.ndarray:
    """Return the greedy actions, of BCQ among those that its clone gives often enough."""
    weights = learner.network.weights
    values = learner.outputs_of("net", weights, states)
    if "behavior" in learner.parts:
        logits = learner.outputs_of("behavior", weights, states)
        values = values.masked_fill(~is_supported(logits, 0.3), -torch.inf)
    return values.argmax(dim=-1).numpy()


def train_theirs(pair: Pair, columns: Columns, steps: int, seed: int) -> Greedy:
    """Train d3rlpy's learner and return its choice."""
    d3rlpy.seed(seed)
    dataset = make_dataset(columns)
    learner = new_theirs(pair, dataset, BATCH)
    start_alike(learner, 10 * seed)
    if hasattr(learner.impl, "_target_update_interval"):
        learner.impl._target_update_interval = COPIED_EVERY
    for _ in range(steps):
        learner.update(dataset.sample_transition_batch(BATCH))
    return lambda states: learner.predict(states.numpy())


if __name__ == "__main__":
    main()
