"""Replay buffers as plain arrays: the one form training and evaluation read."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sepsis_cql.errors import ReplayError

SPLITS = ("train", "validation", "test")
REWARD_VARIANTS = ("sparse", "sofa_shaped")
KEYS = ("subject_id", "stay_id", "step_index")


@dataclass(frozen=True)
class Transitions:
    """Transitions of one split, sorted by stay and step.

    Attributes:
        states: (n, n_states) float32; clinical units with NaN for "missing", or, where `normalised` is true,
            the published z-scores.
        actions: (n,) int64, 5 * vasopressor bin + fluid bin.
        rewards: (n,) float64.
        next_states: (n, n_states) float32; repeats `states` on terminal steps.
        terminals: (n,) bool, true on the last step of each stay.
        stay_id: (n,) int64.
        subject_id: (n,) int64; equals `stay_id` where the file does not name patients.
        step_index: (n,) int64, 0 for the first step of a stay.
        state_names: names of the state columns, in order.
        normalised: whether states are already z-scored.
    """

    states: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    next_states: np.ndarray
    terminals: np.ndarray
    stay_id: np.ndarray
    subject_id: np.ndarray
    step_index: np.ndarray
    state_names: tuple[str, ...]
    normalised: bool

    def __len__(self) -> int:
        return len(self.actions)

    @cached_property
    def episode_starts(self) -> np.ndarray:
        """(n_episodes,) row index of each stay's first step."""
        return np.flatnonzero(np.r_[True, self.stay_id[1:] != self.stay_id[:-1]])

    @property
    def n_episodes(self) -> int:
        """Number of stays."""
        return len(self.episode_starts)


def load_transitions(path: Path, split: str = "train", reward_variant: str = "sparse") -> Transitions:
    """Read one split of a replay directory, or a replay parquet file of the published format.

    Args:
        path: a directory written by `sepsis-cql build`, or a parquet file with the columns stay_id,
            step_index, action, reward, done, s_<name>, ns_<name>.
        split: train, validation or test; ignored for a single file.
        reward_variant: sparse or sofa_shaped; ignored for a single file, which holds one reward.

    Raises:
        ReplayError: a file or column is missing, or the transitions are inconsistent.
    """
    path = Path(path)
    if path.is_file():
        return check_transitions(_from_published(_read_table(path), path), path)
    if split not in SPLITS or reward_variant not in REWARD_VARIANTS:
        raise ReplayError(
            f"{split}/{reward_variant}: expected a split of {SPLITS} and a reward of {REWARD_VARIANTS}."
        )
    file = path / f"{split}.parquet"
    if not file.is_file():
        raise ReplayError(f"{file}: not found. Expected a directory written by `sepsis-cql build`.")
    return check_transitions(_from_build(_read_table(file), file, reward_variant), file)


def check_transitions(data: Transitions, source: Path | str) -> Transitions:
    """Return `data` unchanged if its stays, steps, actions and rewards are consistent.

    Raises:
        ReplayError: naming what is wrong and in how many rows.
    """
    if len(data) == 0:
        raise ReplayError(f"{source}: holds no transition.")
    last = np.r_[data.stay_id[1:] != data.stay_id[:-1], True]
    steps = np.arange(len(data)) - np.repeat(
        data.episode_starts, np.diff(np.r_[data.episode_starts, len(data)])
    )
    n_actions_outside = int(((data.actions < 0) | (data.actions > 24)).sum())
    checks = {
        f"{n_actions_outside} actions outside 0-24": n_actions_outside == 0,
        "rewards that are NaN or infinite": bool(np.isfinite(data.rewards).all()),
        "infinite states": not bool(np.isinf(data.states).any()),
        "NaN in normalised states": not (data.normalised and bool(np.isnan(data.states).any())),
        "terminal flags that do not mark exactly the last step of each stay": bool(
            (data.terminals == last).all()
        ),
        "step_index that does not count 0, 1, 2, ... within each stay": bool(
            (data.step_index == steps).all()
        ),
        "a stay that appears twice": len(np.unique(data.stay_id)) == data.n_episodes,
    }
    problems = [problem for problem, holds in checks.items() if not holds]
    if problems:
        raise ReplayError(f"{source}: found {'; '.join(problems)}. Rebuild the replay buffer.")
    return data


def state_matrix(column: pa.ChunkedArray) -> np.ndarray:
    """(n, n_states) float32 of a column of equally long lists, without a copy per row."""
    values = column.combine_chunks()
    return (
        values.flatten()
        .to_numpy(zero_copy_only=False)
        .reshape(len(values), -1)
        .astype(np.float32, copy=False)
    )


def _read_table(file: Path) -> pa.Table:
    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise ReplayError(f"{file}: not a readable parquet file ({error}).") from error
    required = {"stay_id", "step_index", "action"}
    if missing := sorted(required - set(table.column_names)):
        raise ReplayError(f"{file}: columns {missing} missing; found {table.column_names[:8]} ...")
    return table.sort_by([("stay_id", "ascending"), ("step_index", "ascending")])


def _from_build(table: pa.Table, file: Path, reward_variant: str) -> Transitions:
    reward = f"reward_{reward_variant}"
    required = {"subject_id", "state", "next_state", "terminal", reward}
    if missing := sorted(required - set(table.column_names)):
        raise ReplayError(f"{file}: columns {missing} missing. Rebuild with `sepsis-cql build`.")
    names = (table.schema.metadata or {}).get(b"state_names")
    if names is None:
        raise ReplayError(f"{file}: has no state_names in its metadata. Rebuild with `sepsis-cql build`.")
    return Transitions(
        states=state_matrix(table["state"]),
        actions=_column(table, "action", np.int64, file),
        rewards=_column(table, reward, np.float64, file),
        next_states=state_matrix(table["next_state"]),
        terminals=_column(table, "terminal", np.bool_, file),
        **{key: _column(table, key, np.int64, file) for key in KEYS},
        state_names=tuple(names.decode().split(",")),
        normalised=False,
    )


def _from_published(table: pa.Table, file: Path) -> Transitions:
    names = sorted(name[2:] for name in table.column_names if name.startswith("s_"))
    required = {"reward", "done", *(f"ns_{name}" for name in names)}
    if not names or (missing := sorted(required - set(table.column_names))):
        found = missing if names else "no s_<name> column"
        raise ReplayError(
            f"{file}: {found} missing; expected the published replay format (s_*, ns_*, reward, done)."
        )
    stay_id = _column(table, "stay_id", np.int64, file)
    return Transitions(
        states=_stack(table, [f"s_{name}" for name in names], file),
        actions=_column(table, "action", np.int64, file),
        rewards=_column(table, "reward", np.float64, file),
        next_states=_stack(table, [f"ns_{name}" for name in names], file),
        terminals=_column(table, "done", np.bool_, file),
        stay_id=stay_id,
        subject_id=stay_id,
        step_index=_column(table, "step_index", np.int64, file),
        state_names=tuple(names),
        normalised=True,
    )


def _column(table: pa.Table, name: str, dtype: type, file: Path) -> np.ndarray:
    column = table[name]
    if column.null_count:
        raise ReplayError(f"{file}: column {name} has {column.null_count} nulls (expected 0).")
    try:
        return pc.cast(column, pa.from_numpy_dtype(dtype)).to_numpy()
    except pa.ArrowInvalid as error:
        raise ReplayError(
            f"{file}: column {name} is {column.type}, expected {dtype.__name__} ({error})."
        ) from error


def _stack(table: pa.Table, names: list[str], file: Path) -> np.ndarray:
    return np.stack([_column(table, name, np.float64, file) for name in names], axis=1).astype(np.float32)
