"""Evaluate a policy from Python in one call: what `sepsis-cql evaluate` does, with functions in memory."""

from collections.abc import Mapping
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from typing import Any

from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.common.storage import new_directory
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.evaluate import SELECTION_SPLIT, evaluate_policy, write_evaluation
from sepsis_cql.evaluation.policies.base import FunctionPolicy, call_apart
from sepsis_cql.evaluation.policies.load import LoadedPolicy, Spec, States, load_policy, probe_policy
from sepsis_cql.evaluation.record import Evaluation
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.test_split import check_splits
from sepsis_cql.replay.directory import Replay, open_replay
from sepsis_cql.synthetic.truth import open_truth


def evaluate(
    policy: Spec | LoadedPolicy,
    replay: str | PathLike[str] | Replay,
    *,
    split: str = SELECTION_SPLIT,
    behavior: States | None = None,
    changes: Mapping[str, Any] | None = None,
    out: str | PathLike[str] | None = None,
) -> Evaluation:
    """Evaluate a policy on the validation split by the sound protocol.

    Args:
        policy: what `load_policy` takes, or what it gave.
        replay: a directory written by `sepsis-cql build`, or `open_replay` of one.
        split: validation. The test split is counted for each policy that sees it, which `sepsis-cql evaluate` does.
        behavior: the clinicians' probabilities, (n, n_states) states in clinical units, NaN where unknown, to (n, 25)
            positive probabilities; fitted from the training split if None. It counts as an estimate, beside which one
            is fitted, unless `changes` state `{"behavior": {"exact": True}}`, as of a randomized trial.
        changes: of `configs/evaluation.yaml`, nested as it is, such as `{"resamples": 200, "fqe": {"refits": 20}}`.
        out: directory to create with evaluation.json, figures and report.html; nothing is written if None.

    Returns:
        The record; returns in units of the final reward, -15 to 15 as shipped.

    Raises:
        SepsisCQLError: policy, replay and settings do not fit together, or the test split was asked for.
    """
    if split != SELECTION_SPLIT:
        raise EvaluationError(
            f"split: found {split}, expected {SELECTION_SPLIT}. Use `sepsis-cql evaluate --split test`, which keeps "
            "the ledger of policies that have seen the test split."
        )
    opened = open_replay(Path(replay)) if isinstance(replay, str | PathLike) else replay
    loaded = policy if isinstance(policy, LoadedPolicy) else load_policy(policy)
    settings = load_shipped(EvaluationSettings, "evaluation.yaml", dict(changes or {}))
    check_splits(opened)
    place = nullcontext() if out is None else new_directory(Path(out), "evaluate", inputs=[opened.path])
    with place as directory:
        probe_policy(loaded, opened)
        found = evaluate_policy(
            loaded,
            opened,
            split,
            "sound",
            settings,
            truth=open_truth(opened),
            behavior=None
            if behavior is None
            else FunctionPolicy("behavior", call_apart(behavior, "behavior")),
        )
        if directory is not None:
            write_evaluation(found, directory)
    return found
