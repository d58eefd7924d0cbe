"""Replay buffers for others: the original code's format, and the libraries d3rlpy and Minari, both optional."""

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sepsis_cql.common.storage import new_file
from sepsis_cql.replay.directory import write_private_marks
from sepsis_cql.replay.records import Normalizer
from sepsis_cql.replay.rows.actions import ACTION_NAMES
from sepsis_cql.replay.transitions import Transitions


def write_original(transitions: Transitions, file: Path) -> None:
    """Write transitions with normalized states to the parquet file that the original code reads, as `open_replay`."""
    columns = {
        "stay_id": transitions.stay_id,
        "step_index": transitions.step_index,
        "action": transitions.actions,
        "reward": transitions.rewards,
        "done": transitions.terminals,
    }
    for index, name in enumerate(transitions.state_names):
        columns[f"s_{name}"] = transitions.states[:, index]
        columns[f"ns_{name}"] = transitions.next_states[:, index]
    with new_file(file) as temporary:
        pq.write_table(pa.table(columns), temporary)
    file.chmod(0o600)  # its rows may be patients'


def to_d3rlpy(transitions: Transitions, normalizer: Normalizer) -> Any:
    """Return a `d3rlpy.dataset.MDPDataset` with one episode a stay.

    Args:
        transitions: one split of a replay directory, in clinical units.
        normalizer: of the same directory's statistics.json; those libraries know neither units nor NaN.
    """
    from d3rlpy.constants import ActionSpace
    from d3rlpy.dataset import MDPDataset

    return MDPDataset(
        observations=normalizer(transitions.states),
        actions=transitions.actions[:, None],
        rewards=transitions.rewards.astype(np.float32)[:, None],
        terminals=transitions.terminals.astype(np.float32),
        action_space=ActionSpace.DISCRETE,
        action_size=len(ACTION_NAMES),
    )


def to_minari(transitions: Transitions, normalizer: Normalizer, dataset_id: str, directory: Path) -> Any:
    """Return a `minari.MinariDataset` with one episode a stay, written under a private directory.

    Args:
        transitions: one split of a replay directory, in clinical units.
        normalizer: of the same directory's statistics.json.
        dataset_id: Minari's name for it, such as `sepsis/train-v0`.
        directory: where it is written instead of Minari's shared folder, because the rows are patients'.
    """
    import gymnasium
    import minari
    from minari.data_collector import EpisodeBuffer

    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    write_private_marks(directory)
    states = normalizer(transitions.states)
    bounds = [*transitions.episode_starts, len(transitions)]
    episodes = [
        EpisodeBuffer(
            id=number,
            observations=np.concatenate([states[start:end], states[end - 1 : end]]),
            actions=transitions.actions[start:end],
            rewards=transitions.rewards[start:end],
            terminations=transitions.terminals[start:end],
            truncations=np.zeros(end - start, dtype=bool),
        )
        for number, (start, end) in enumerate(pairwise(bounds))
    ]
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(directory)
    try:
        return minari.create_dataset_from_buffers(
            dataset_id,
            episodes,
            observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (states.shape[1],), np.float32),
            action_space=gymnasium.spaces.Discrete(len(ACTION_NAMES)),
            data_format="arrow",
        )
    finally:
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before
