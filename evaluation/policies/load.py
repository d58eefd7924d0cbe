"""Anything that can be called a policy, loaded into the one form that is evaluated."""

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path

import numpy as np
import torch
from scipy.special import softmax

from sepsis_cql.checkpoints.d3rlpy_file import read_d3
from sepsis_cql.checkpoints.hub_package import WEIGHTS, load_package
from sepsis_cql.checkpoints.original_pt import model_from_checkpoint, read_original_checkpoint
from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.common.storage import sha256_file, sha256_json
from sepsis_cql.evaluation import record
from sepsis_cql.evaluation.cache import cache_last
from sepsis_cql.evaluation.policies.base import (
    FunctionPolicy,
    Policy,
    QPolicy,
    call_apart,
    checked_probabilities,
)
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.replay.directory import Replay
from sepsis_cql.replay.rows.actions import N_ACTIONS
from sepsis_cql.replay.transitions import Transitions
from sepsis_cql.training.sweep.selection import sha256_policy

BATCH = 65536  # states valued at a time
States = Callable[[np.ndarray], np.ndarray]
Spec = str | PathLike[str] | States | SepsisCQLModel  # what `load_policy` takes


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy with what the report says about it.

    Attributes:
        facts: its name, kind and the SHA-256 of its weights.
        network: (n, 62) states to (n, 25) values, minus infinity for a dose that is never given; None for a policy
            that values do not decide.
        function: states to probabilities or actions, where there is no network.
        state_names: order of the states it takes; None if it does not say.
        takes_normalized: whether it wants z-scores instead of clinical units.
        identify: returns what the ledger of the test split knows it by: the SHA-256 of a network's tensors, of a
            function's source, or of a file.
    """

    facts: record.Policy
    network: States | None
    function: States | None
    state_names: tuple[str, ...] | None
    takes_normalized: bool
    identify: Callable[[], str]

    def bind(self, transitions: Transitions, replay: Replay) -> Policy:
        """Return the policy on states as this replay holds them.

        Raises:
            EvaluationError: the replay has other states, or normalized ones where clinical units are needed.
        """
        return self.bind_to(transitions.state_names, replay, normalized=transitions.normalized)

    def bind_to(self, state_names: tuple[str, ...], replay: Replay, *, normalized: bool) -> Policy:
        """Return the policy on states in this order; see `bind`."""
        if self.state_names is not None and self.state_names != state_names:
            wrong = sum(a != b for a, b in zip(self.state_names, state_names, strict=False))
            raise EvaluationError(
                f"{replay.path}: {len(state_names)} states, {wrong} of them not where "
                f"{self.facts.name} expects them ({len(self.state_names)} states). Use the replay it fits."
            )
        convert: States = _unchanged
        if self.takes_normalized and not normalized:
            assert replay.statistics is not None  # only a single file has none, and it is normalized
            convert = replay.statistics.normalizer
        elif normalized and self.state_names is not None and not self.takes_normalized:
            raise EvaluationError(
                f"{replay.path}: holds normalized states, but {self.facts.name} takes clinical units and "
                "normalizes them itself. Evaluate it on a directory written by `sepsis-cql build`."
            )
        network, function = self.network, self.function
        if network is not None:
            return QPolicy(self.facts.name, cache_last(lambda states: network(convert(states))))
        assert function is not None
        return FunctionPolicy(self.facts.name, lambda states: function(convert(states)))


def load_policy(spec: Spec, *, name: str | None = None, gives_values: bool = False) -> LoadedPolicy:
    """Load a policy.

    Args:
        spec: a package directory, a Hub id as `name/repository@revision`, a published `.pt`, a `.d3` model of
            d3rlpy, or `module:function` taking (n, 62) states and returning (n, 25) probabilities or (n,) actions.
            In Python also such a function itself, or a `SepsisCQLModel`. States come in clinical units with NaN
            where nothing is known, in the order of the replay's state names.
        name: what reports call a function or model in memory.
        gives_values: whether a function returns (n, 25) action values; the greedy policy of them is evaluated, and
            versions of it nearer to the clinicians.

    Raises:
        EvaluationError: it is none of these, or cannot be imported.
        CheckpointError: its weights are damaged or foreign.
    """
    if isinstance(spec, SepsisCQLModel):
        return policy_of_model(spec, name or "policy")
    if callable(spec):
        return policy_of_function(
            spec, name or str(getattr(spec, "__name__", "policy")), gives_values=gives_values
        )
    spec = fspath(spec)
    path = Path(spec)
    if path.is_dir():
        return _from_model(load_package(path), path.resolve().name, "package", sha256_file(path / WEIGHTS))
    if path.suffix == ".pt":
        model = model_from_checkpoint(read_original_checkpoint(path))
        return _from_model(model, path.name, "published checkpoint", sha256_file(path))
    if path.suffix == ".d3":
        return _load_d3rlpy(path)
    if path.is_file():
        raise EvaluationError(f"{spec}: found a file, expected a `.pt`, a `.d3` or a package directory.")
    if ":" in spec:
        return _load_function(spec)
    hub_id, _, revision = spec.partition("@")
    if hub_id.count("/") != 1 or not revision:
        raise EvaluationError(
            f"{spec}: not found. Expected a package directory, a `.pt`, a `.d3`, module:function, or a Hub id "
            "with its revision, such as name/repository@main."
        )
    model = load_package(hub_id, revision)
    return _from_model(model, spec, "package", sha256_policy(model))


def probe_policy(loaded: LoadedPolicy, replay: Replay, *, needs_values: bool = False) -> None:
    """Ask a policy about a few made-up states, before minutes are spent on anything else.

    The states are the training median, a standard deviation around it, and one in which nothing was measured; they show
    the policy no patient and read no split of a replay directory.

    Raises:
        EvaluationError: it fails on them, or its answers are not (n, 25) probabilities or finite values, or actions,
            or it has no values where the published protocol needs them.
    """
    statistics = replay.statistics
    if statistics is None:  # a single file, whose states are normalized
        names, rows = replay.transitions("", "").state_names, [np.zeros, np.ones]
        states, normalized = np.stack([row(len(names)) for row in rows]), True
    else:
        normal = statistics.normalizer
        names, normalized = tuple(normal.names), False
        fill, scale = np.array(normal.fill), np.array(normal.scale)
        is_flag = np.array([name.endswith("_missing") for name in names])
        flagged = np.array([f"{name}_missing" in names for name in names])
        unknown = np.where(is_flag, 1.0, np.where(flagged, np.nan, fill))
        low, high = (np.where(is_flag, 0.0, fill + step * scale) for step in (-1, 1))
        states = np.stack([np.where(is_flag, 0.0, fill), low, high, unknown])
    policy = loaded.bind_to(names, replay, normalized=normalized)
    states = states.astype(np.float32)
    if needs_values:
        require_values(policy)
    try:
        values = policy.q_values(states) if isinstance(policy, QPolicy) else None
        if values is None:
            checked_probabilities(policy, states)
    except Exception as error:
        cause = error.__cause__ if isinstance(error, EvaluationError) else error
        if cause is None:
            raise
        raise EvaluationError(  # of made-up states it may be repeated what a function of the user's says
            f"{loaded.facts.name}: failed on {states.shape} made-up states ({type(cause).__name__}: {cause}). Expected "
            "a function of (n, n_states) states to (n, 25) probabilities or (n,) actions."
        ) from cause
    if values is not None and (np.shape(values) != (len(states), N_ACTIONS) or not _are_values(values)):
        raise EvaluationError(
            f"{loaded.facts.name}: returned values of shape {np.shape(values)}, expected {(len(states), N_ACTIONS)} "
            "finite numbers. Use a policy of the 25 actions."
        )


def require_values(policy: Policy) -> QPolicy:
    """Return a policy that has values; the published protocol is about nothing else."""
    if isinstance(policy, QPolicy):
        return policy
    raise EvaluationError(
        f'{policy.name}: has no values, and the published "FQE" is the mean of max Q(s_0). Use --protocol sound, on a '
        "replay directory."
    )


def _are_values(values: np.ndarray) -> bool:
    """Whether they are finite, or minus infinity for some of the doses of a state."""
    is_number = np.isfinite(values)
    return bool((is_number | np.isneginf(values)).all() and is_number.any(axis=1).all())


def policy_of_model(model: SepsisCQLModel, name: str = "policy") -> LoadedPolicy:
    """Wrap a network in memory."""
    return _from_model(model, name, "package", None)


def policy_of_function(function: States, name: str, *, gives_values: bool = False) -> LoadedPolicy:
    """Wrap a function from (n, n_states) states, as the replay holds them, to probabilities, actions or values."""
    facts, called = record.Policy(name=name, kind="function", weights_sha256=None), call_apart(function, name)
    return LoadedPolicy(
        facts,
        called if gives_values else None,
        None if gives_values else called,
        None,
        takes_normalized=False,
        identify=lambda: _sha256_source(function, name),
    )


def _from_model(model: SepsisCQLModel, name: str, kind: str, sha256: str | None) -> LoadedPolicy:
    gives_values = "values" in model.config.outputs
    return LoadedPolicy(
        facts=record.Policy.model_validate({"name": name, "kind": kind, "weights_sha256": sha256}),
        network=(lambda states: _apply(model, states)) if gives_values else None,
        function=None if gives_values else lambda states: softmax(_apply(model, states), axis=1),
        state_names=tuple(model.config.state_names),
        takes_normalized=model.config.normalization == "identity",
        identify=lambda: sha256_policy(model),
    )


@torch.no_grad()
def _apply(model: SepsisCQLModel, states: np.ndarray) -> np.ndarray:
    """(n, 25) values or logits that a network's policy ranks doses by, minus infinity for doses it never gives."""
    tensor = torch.from_numpy(np.array(states, dtype=np.float32))
    return torch.cat([model.preferences(model(part)) for part in tensor.split(BATCH)]).numpy()


def _load_function(spec: str) -> LoadedPolicy:
    module_name, _, function_name = spec.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does, so that a module beside the user is found
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (Exception, SystemExit) as error:  # whatever a module of the user's raises
        raise EvaluationError(
            f"{spec}: cannot be imported ({type(error).__name__}: {error}). Expected module:function."
        ) from error
    if not callable(function):
        raise EvaluationError(f"{spec}: is a {type(function).__name__}, expected a function of states.")
    return policy_of_function(function, spec)


def _load_d3rlpy(path: Path) -> LoadedPolicy:
    """Load a policy trained on what `replay.interop.exports.to_d3rlpy` gives."""
    policy, sha256 = read_d3(path), sha256_file(path)

    def outputs(states: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(np.array(states, dtype=np.float32))
        return torch.cat([policy.outputs(part) for part in tensor.split(BATCH)]).numpy()

    return LoadedPolicy(
        facts=record.Policy(name=path.name, kind="d3rlpy", weights_sha256=sha256),
        network=outputs if policy.critics else None,
        function=None if policy.critics else lambda states: softmax(outputs(states), axis=1),
        state_names=None,
        takes_normalized=True,
        identify=lambda: sha256,
    )


def _sha256_source(function: States, name: str) -> str:
    """SHA-256 of the source of the module that defines a function and of the one it was named by.

    Raises:
        EvaluationError: there is no source, so that nobody could tell one policy from another.
    """
    modules = {inspect.getmodule(function), sys.modules.get(name.partition(":")[0])} - {None}
    try:
        sources = sorted(inspect.getsource(module) for module in modules if module is not None)
    except (OSError, TypeError):
        sources = []
    if not sources:
        raise EvaluationError(
            f"{name}: has no Python source, expected a function in a module file: the ledger of the test split knows "
            "it by that. Put it into a file."
        )
    return sha256_json([*sources, getattr(function, "__qualname__", name.partition(":")[2])])


def _unchanged(states: np.ndarray) -> np.ndarray:
    return states
