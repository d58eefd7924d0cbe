"""Replay buffers as plain arrays: the one form training and evaluation read."""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sepsis_cql.common.errors import ReplayError
from sepsis_cql.common.storage import errno_of
from sepsis_cql.replay.rows.actions import N_ACTIONS
from sepsis_cql.replay.rows.buffers import state_matrix

REWARD_VARIANTS = ("sparse", "sofa_shaped")
KEYS = ("subject_id", "stay_id", "step_index")
LARGEST_STATE = 1e12  # whose squares still add up in single precision; nothing clinical comes near it


@dataclass(frozen=True)
class Transitions:
    """Transitions of one split, sorted by stay and step.

    Attributes:
        states: (n, n_states) float32; clinical units with NaN for "missing", or, where `normalized` is true,
            the published z-scores.
        actions: (n,) int64, 5 * vasopressor bin + fluid bin.
        rewards: (n,) float64.
        next_states: (n, n_states) float32; repeats `states` on terminal steps.
        terminals: (n,) bool, true on the last step of each stay.
        stay_id: (n,) int64.
        subject_id: (n,) int64; equals `stay_id` where the file does not name patients.
        step_index: (n,) int64, 0 for the first step of a stay.
        state_names: names of the state columns, in order.
        normalized: whether states are already z-scored.
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
    normalized: bool

    def __len__(self) -> int:
        return len(self.actions)

    @cached_property
    def episode_starts(self) -> np.ndarray:
        """Return the (n_episodes,) row index of each stay's first step."""
        return np.flatnonzero(np.r_[True, self.stay_id[1:] != self.stay_id[:-1]])

    @property
    def n_episodes(self) -> int:
        """Return the number of stays."""
        return len(self.episode_starts)

    @property
    def n_patients(self) -> int:
        """Number of patients."""
        return len(np.unique(self.subject_id))

    def take(self, rows: np.ndarray) -> "Transitions":
        """Return the transitions of a (n,) mask or of row numbers."""
        columns = {name: value[rows] for name, value in vars(self).items() if name in COLUMNS}
        return replace(self, **columns)


COLUMNS = frozenset(field.name for field in fields(Transitions) if field.type is np.ndarray)


def read_directory_split(file: Path, reward_variant: str) -> Transitions:
    """Read one split that `sepsis-cql build` wrote, with one of its rewards.

    Raises:
        ReplayError: the file or a column is missing, or the transitions are inconsistent.
    """
    if not file.is_file():
        raise ReplayError(f"{file}: not found. Expected a directory written by `sepsis-cql build`.")
    return check_transitions(_from_build(_read_table(file), file, reward_variant), file)


def read_original_file(file: Path) -> Transitions:
    """Read a replay of the original format: columns stay_id, step_index, action, reward, done, s_<name>, ns_<name>.

    Raises:
        ReplayError: a column is missing, or the transitions are inconsistent.
    """
    return check_transitions(_from_original(_read_table(file), file), file)


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
    n_actions_outside = int(((data.actions < 0) | (data.actions >= N_ACTIONS)).sum())
    checks = {
        f"{n_actions_outside} actions outside 0-{N_ACTIONS - 1}": n_actions_outside == 0,
        "rewards that are NaN or infinite": bool(np.isfinite(data.rewards).all()),
        "infinite states": not any(np.isinf(states).any() for states in (data.states, data.next_states)),
        f"states beyond {LARGEST_STATE:g}": not any(
            (np.isfinite(states) & (np.abs(states) > LARGEST_STATE)).any()
            for states in (data.states, data.next_states)
        ),
        "NaN in normalized states": not data.normalized
        or not any(np.isnan(states).any() for states in (data.states, data.next_states)),
        "terminal flags that do not mark exactly the last step of each stay": bool(
            (data.terminals == last).all()
        ),
        "step_index that does not count 0, 1, 2, ... within each stay": bool(
            (data.step_index == steps).all()
        ),
        "a stay that appears twice": len(np.unique(data.stay_id)) == data.n_episodes,
        "a stay of two patients": bool((data.subject_id[1:] == data.subject_id[:-1])[~last[:-1]].all()),
        "a next_state that is not the state of the following step": np.array_equal(
            data.next_states[:-1][~last[:-1]], data.states[1:][~last[:-1]], equal_nan=True
        ),
    }
    problems = [problem for problem, holds in checks.items() if not holds]
    if problems:
        raise ReplayError(f"{source}: found {'; '.join(problems)}. Rebuild the replay buffer.")
    return data


def _read_table(file: Path) -> pa.Table:
    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and errno_of(error):
            raise
        raise ReplayError(f"{file}: not a readable parquet file ({type(error).__name__}).") from error
    if table.num_rows == 0:
        raise ReplayError(f"{file}: holds no transition. Build the replay from more patients.")
    required = {"stay_id", "step_index", "action"}
    names = table.column_names
    if missing := sorted(required - set(names)):
        raise ReplayError(f"{file}: columns {missing} missing; found {names[:8]} ...")
    if repeated := sorted({name for name in names if names.count(name) > 1})[:8]:
        raise ReplayError(
            f"{file}: columns {repeated} stand there twice, expected once. Rebuild the replay buffer."
        )
    for key in ("stay_id", "step_index"):
        table = table.set_column(names.index(key), key, pa.array(_column(table, key, np.int64, file)))
    return table.sort_by([("stay_id", "ascending"), ("step_index", "ascending")])


def _from_build(table: pa.Table, file: Path, reward_variant: str) -> Transitions:
    reward = f"reward_{reward_variant}"
    required = {"subject_id", "state", "next_state", "terminal", reward}
    if missing := sorted(required - set(table.column_names)):
        raise ReplayError(f"{file}: columns {missing} missing. Rebuild with `sepsis-cql build`.")
    names = (table.schema.metadata or {}).get(b"state_names")
    if names is None:
        raise ReplayError(f"{file}: has no state_names in its metadata. Rebuild with `sepsis-cql build`.")
    state_names = names.decode(errors="replace").split(",")
    return Transitions(
        states=_states(table, "state", len(state_names), file),
        actions=_column(table, "action", np.int64, file),
        rewards=_column(table, reward, np.float64, file),
        next_states=_states(table, "next_state", len(state_names), file),
        terminals=_column(table, "terminal", np.bool_, file),
        **{key: _column(table, key, np.int64, file) for key in KEYS},
        state_names=tuple(state_names),
        normalized=False,
    )


def _from_original(table: pa.Table, file: Path) -> Transitions:
    names = sorted(name[2:] for name in table.column_names if name.startswith("s_"))
    following = {name[3:] for name in table.column_names if name.startswith("ns_")}
    required = {"reward", "done", *(f"ns_{name}" for name in names), *(f"s_{name}" for name in following)}
    if not names or (missing := sorted(required - set(table.column_names))):
        found = missing if names else "no s_<name> column"
        raise ReplayError(
            f"{file}: {found} missing; expected the original replay format (s_*, ns_*, reward, done)."
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
        normalized=True,
    )


def _states(table: pa.Table, name: str, width: int, file: Path) -> np.ndarray:
    """(n, width) float32 of a column of lists."""
    kind = table[name].type
    is_list = pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type)
    if not is_list or kind.list_size != width or table[name].null_count:
        raise ReplayError(
            f"{file}: column {name} is {kind} with {table[name].null_count} nulls, expected lists of the {width} "
            "states that its metadata name, and none null. Rebuild the replay buffer."
        )
    return state_matrix(table[name])


def _column(table: pa.Table, name: str, dtype: type, file: Path) -> np.ndarray:
    column = table[name]
    if column.null_count:
        raise ReplayError(f"{file}: column {name} has {column.null_count} nulls (expected 0).")
    try:
        return pc.cast(column, pa.from_numpy_dtype(dtype)).to_numpy()
    except pa.ArrowException as error:
        raise ReplayError(
            f"{file}: column {name} is {column.type}, expected values of {dtype.__name__} ({type(error).__name__}). "
            "Rebuild the replay buffer."
        ) from error


def _stack(table: pa.Table, names: list[str], file: Path) -> np.ndarray:
    return np.stack([_column(table, name, np.float64, file) for name in names], axis=1).astype(np.float32)
