"""`sepsis-cql runs`: what lies in a directory of runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from sepsis_cql.commands.output import console, print_rows
from sepsis_cql.common.errors import SepsisCQLError

if TYPE_CHECKING:
    from sepsis_cql.evaluation.record import PolicyRecord
    from sepsis_cql.training.settings import TrainingSettings

COPIES = {"evidence", "export", "card", "package"}  # folders whose records are of a run that lies beside them


def runs(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to look, at any depth.")],
) -> None:
    """List trained networks and evaluations under a directory, with what was found."""
    if not directory.is_dir():
        raise SepsisCQLError(f"{directory}: not found, expected a directory with runs.")
    rows = list(_list_runs(directory))
    if not rows:
        console.print(f"{escape(str(directory))}: no training.json and no evaluation.json in it.")
    else:
        names = ("directory", "command", "replay", "says")
        headings = ("directory", "made by", "replay", "what it says")
        print_rows(headings, [[row[name] for name in names] for row in rows])
    console.answer({"runs": rows})


def _list_runs(directory: Path) -> Iterator[dict[str, str]]:
    """Yield directory, command, first digits of the replay's fingerprint, and a sentence for each record."""
    from sepsis_cql.evaluation.record import RECORD as EVALUATION
    from sepsis_cql.evaluation.record import find_judged, load_evaluation
    from sepsis_cql.evaluation.report.results import name_policy
    from sepsis_cql.training.outputs import RECORD as TRAINING
    from sepsis_cql.training.outputs import read_run_record

    for file in sorted([*directory.rglob(TRAINING), *directory.rglob(EVALUATION)]):
        place = file.parent.relative_to(directory)
        if COPIES & set(place.parts):
            continue
        command = "train" if file.name == TRAINING else "evaluate"
        try:
            if command == "train":
                run = read_run_record(file.parent)
                fingerprint = run.data.replay_fingerprint
                says = _describe(run.settings, run.epochs)
            else:
                found = load_evaluation(file.parent)
                fingerprint = found.replay.fingerprint
                judged = find_judged(found.policies, found.frozen)
                name = name_policy(judged.name, found.policy.name) if judged else found.policy.name
                says = f"{name} on {found.split}: {found.verdict.label}{_say_difference(judged, found.bound)}"
        except SepsisCQLError:
            fingerprint, says = "", "not readable: made by another version, or not by this program"
        yield {"directory": str(place), "command": command, "replay": fingerprint[:8], "says": says}


def _describe(chosen: "TrainingSettings", epochs: int) -> str:
    """Say by what settings a network was trained, those of its learner alone among them."""
    from sepsis_cql.training.settings import TrainingSettings

    shared = TrainingSettings.model_fields.keys() | {"gamma"}
    own = [f"{name} {value}" for name, value in chosen.model_dump().items() if name not in shared]
    rate = f"learning rate {chosen.learning_rate:g}"
    return ", ".join(
        [chosen.algorithm, chosen.reward_variant, rate, *own, f"{epochs} epochs", f"seed {chosen.seed}"]
    )


def _say_difference(judged: "PolicyRecord | None", bound: float) -> str:
    """Of the version that the verdict is about, where it is a result."""
    from sepsis_cql.evaluation.report.results import find_difference

    difference = judged and find_difference(judged, bound)
    return f", difference to clinicians {difference}" if difference else ""
