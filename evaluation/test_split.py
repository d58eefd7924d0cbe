"""Who may see the test split: the policy chosen on validation, and whoever states a reason after it."""

from pathlib import Path

from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.evaluation.policies.load import LoadedPolicy
from sepsis_cql.replay.directory import Replay
from sepsis_cql.training.sweep.ledger import LEDGER, count_test_uses, open_test_split
from sepsis_cql.training.sweep.selection import require_selected


def enter_test_split(
    loaded: LoadedPolicy, replay: Replay, selection: Path | None, *, again: bool, why: str | None
) -> int | None:
    """Enter a policy into the ledger beside the replay; returns how many policies it then holds.

    A model package must be the one that the selection froze. Policies that were not chosen here (a published
    checkpoint, another library's, a function) need no selection, but count in the ledger. A single replay file has
    neither: it is a published case to review, and nothing was selected on its companions.

    Raises:
        EvaluationError: a package was asked for without its selection.
        TrainingError: the selection or the ledger forbids it.
    """
    if replay.provenance is None:
        return None
    fingerprint, ledger = replay.fingerprint, replay.path / LEDGER
    if loaded.facts.kind == "package":
        if selection is None:
            raise EvaluationError(
                f"{loaded.facts.name}: the test split is for the policy frozen after validation, and no "
                "--selection was given. Freeze the choice first (`sepsis-cql sweep` writes selection.json), or "
                "use --split validation."
            )
        require_selected(selection, loaded.identity, fingerprint)
    open_test_split(ledger, loaded.identity, fingerprint, again, why)
    return count_test_uses(ledger, fingerprint)
