"""Who may see the test split: the policy chosen on validation, and whoever states a reason after it."""

import hashlib
from itertools import combinations
from pathlib import Path

import numpy as np

from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.common.storage import sha256_json
from sepsis_cql.evaluation.data import REWARD_VARIANT
from sepsis_cql.evaluation.policies.load import LoadedPolicy
from sepsis_cql.replay.directory import Replay
from sepsis_cql.replay.records import CREDENTIALED
from sepsis_cql.replay.transitions import Transitions
from sepsis_cql.training.sweep.ledger import count_test_uses, default_ledger, head_of_ledger, open_test_split
from sepsis_cql.training.sweep.memory import LedgerHead
from sepsis_cql.training.sweep.selection import load_selection, require_selected

MOST_SHARED = 0.5  # of the episodes of the smaller split; equal short episodes may happen by chance


def enter_test_split(
    loaded: LoadedPolicy,
    replay: Replay,
    selection: Path | None,
    *,
    again: bool,
    why: str | None,
    ledger: Path | None = None,
) -> int | None:
    """Enter a policy into the ledger of test splits; returns how many policies have then seen this one.

    A model package must be the one that the selection froze. Policies that were not chosen here (a published
    checkpoint, another library's, a function) need no selection, but count in the ledger. A single replay file has
    neither: it is a published case to review, and nothing was selected on its companions.

    Raises:
        EvaluationError: a package was asked for without its selection.
        TrainingError: the selection or the ledger forbids it.
    """
    if replay.provenance is None:
        return None
    policy = loaded.identify()
    if loaded.facts.kind == "package":
        if selection is None:
            raise EvaluationError(
                f"{loaded.facts.name}: the test split is for the policy frozen after validation, and no "
                "--selection was given. Freeze the choice first (`sepsis-cql sweep` writes selection.json), or "
                "use --split validation."
            )
        require_selected(selection, policy, replay.fingerprint)
    return note_test_split(policy, replay, again=again, why=why, ledger=ledger)


def frozen_version(selection: Path | None, kind: str) -> str | None:
    """Return the softening of the version of a package that validation chose; None where it compared none.

    Args:
        selection: the frozen choice.
        kind: of the policy; a selection says something of packages only.
    """
    if selection is None or kind != "package":
        return None
    score = load_selection(selection).validation.score
    return None if score is None else score.softening


def note_test_split(
    policy_sha256: str, replay: Replay, *, again: bool, why: str | None, ledger: Path | None = None
) -> int:
    """Enter a policy, chosen or not, into the ledger; returns how many policies have then seen the test split.

    Raises:
        TrainingError: the ledger forbids it.
    """
    check_splits(replay)
    ledger = ledger or default_ledger()
    split = sha256_split(replay.transitions("test", REWARD_VARIANT))
    is_remembered = (
        replay.source.name in CREDENTIALED
    )  # who repeats a simulated run looks at nothing held back
    open_test_split(ledger, policy_sha256, split, again, why, is_remembered=is_remembered, replay=replay.path)
    return count_test_uses(ledger, split)


def ledger_of(replay: Replay, ledger: Path | None) -> LedgerHead | None:
    """Return where the ledger stands, for the record of an evaluation; None for open records."""
    return head_of_ledger(ledger or default_ledger()) if replay.source.name in CREDENTIALED else None


def check_splits(replay: Replay) -> None:
    """Refuse a replay of whose splits one holds the episodes of another, under whatever names.

    A copy of the test split as validation is no way round the ledger, and one of the training split as either makes
    every policy look as good, and every network as forgetful, as it is on what it learned from.

    Raises:
        EvaluationError: more than half of the episodes of one are those of another.
    """
    if replay.provenance is None:
        return
    episodes = {
        name: set(episode_hashes(replay.transitions(name, REWARD_VARIANT)))
        for name in ("test", "validation", "train")
    }
    for (other, theirs), (name, own) in combinations(episodes.items(), 2):
        if len(own & theirs) > MOST_SHARED * min(len(own), len(theirs)):
            raise EvaluationError(
                f"{replay.path}: most episodes of its {name} split are those of its {other} split, expected other "
                "patients. Build the replay again."
            )


def sha256_split(transitions: Transitions) -> str:
    """Return the SHA-256 of what the episodes of a split hold, whatever their order and the numbers of stays."""
    return sha256_json([list(transitions.state_names), sorted(episode_hashes(transitions))])


def episode_hashes(transitions: Transitions) -> list[str]:
    """Return the SHA-256 of each episode's states, actions, rewards and terminals."""
    columns = (transitions.states, transitions.actions, transitions.rewards, transitions.terminals)
    arrays = [np.ascontiguousarray(column) for column in columns]
    ends = [*transitions.episode_starts[1:], len(transitions)]
    return [
        hashlib.sha256(b"".join(array[start:end].tobytes() for array in arrays)).hexdigest()
        for start, end in zip(transitions.episode_starts, ends, strict=True)
    ]
