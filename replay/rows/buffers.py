"""Transitions and splits to the columns of a replay buffer."""

import numpy as np
import pyarrow as pa

from sepsis_cql.replay.rows.actions import ActionGrid
from sepsis_cql.replay.rows.splits import SPLITS
from sepsis_cql.replay.settings import Features

DOSES = ("norepinephrine_equivalent", "fluid_volume")


def buffer_schema(features: Features) -> pa.Schema:
    """Columns of a replay buffer; the names of the state columns and of the ages ride in the metadata."""
    state_names, aged_names = features.state_names, features.aged_names
    state = pa.list_(pa.float32(), len(state_names))
    fields = [
        ("subject_id", pa.int64()),
        ("hadm_id", pa.int64()),
        ("stay_id", pa.int64()),
        ("step_index", pa.int32()),
        ("step_start", pa.timestamp("us")),
        ("state", state),
        ("action", pa.int64()),
        ("reward_sparse", pa.float32()),
        ("reward_sofa_shaped", pa.float32()),
        ("terminal", pa.bool_()),
        ("next_state", state),
        ("norepinephrine_equivalent", pa.float32()),
        ("fluid_volume", pa.float32()),
        ("sofa", pa.int32()),
        ("is_ventilated", pa.bool_()),
        ("vasopressor_maximum", pa.float32()),
        ("vasopressor_mean", pa.float32()),
        ("carrier_volume", pa.float32()),
        ("maintenance_volume", pa.float32()),
        ("elsewhere_volume", pa.float32()),
        ("window_hours", pa.float32()),
        ("code_status", pa.string()),
        ("value_age", pa.list_(pa.float32(), len(aged_names))),
    ]
    return pa.schema(
        fields, metadata={"state_names": ",".join(state_names), "aged_names": ",".join(aged_names)}
    )


def select_split(transitions: pa.Table, splits: dict[int, str], split: str) -> pa.Table:
    """The transitions of one split's patients, in their order."""
    subject_ids = transitions["subject_id"].to_numpy()
    chosen = [subject_id for subject_id, name in splits.items() if name == split]
    return transitions.filter(pa.array(np.isin(subject_ids, chosen)))


def add_actions(transitions: pa.Table, grid: ActionGrid, features: Features) -> pa.Table:
    """Replay buffer of transitions whose doses are binned by `grid`."""
    actions = grid.bin_actions(*(transitions[dose].to_numpy() for dose in DOSES))
    schema = buffer_schema(features)
    return transitions.append_column("action", pa.array(actions)).select(schema.names).cast(schema)


def make_buffers(
    transitions: pa.Table, splits: dict[int, str], grid: ActionGrid, features: Features
) -> dict[str, pa.Table]:
    """Replay buffer of every split."""
    return {split: add_actions(select_split(transitions, splits, split), grid, features) for split in SPLITS}


def state_matrix(column: pa.ChunkedArray) -> np.ndarray:
    """(n, n_states) float32 of a column of equally long lists, without a copy per row."""
    values = column.combine_chunks()
    return (
        values.flatten()
        .to_numpy(zero_copy_only=False)
        .reshape(len(values), -1)
        .astype(np.float32, copy=False)
    )
