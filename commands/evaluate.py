"""`sepsis-cql evaluate`: what can be said about a policy from a replay."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Column, Table

from sepsis_cql.commands.options import Changes, Force, Ledger, ReplayPath, console, list_files
from sepsis_cql.common.strict import find_settings, load_settings, parse_changes


class Split(StrEnum):
    """Episodes to score."""

    VALIDATION = "validation"
    TEST = "test"


class ProtocolName(StrEnum):
    """Estimates to make."""

    PUBLISHED = "published"
    SOUND = "sound"
    BOTH = "both"


def evaluate(
    policy: Annotated[
        str,
        typer.Option(
            help="Package directory, Hub id@revision, published .pt, d3rlpy .d3, or module:function."
        ),
    ],
    replay: ReplayPath,
    out: Annotated[Path, typer.Option(help="Evaluation directory to create.")],
    split: Annotated[Split, typer.Option(help="Episodes to score.")] = Split.VALIDATION,
    protocol: Annotated[ProtocolName, typer.Option(help="Estimates to make.")] = ProtocolName.BOTH,
    config: Annotated[
        str, typer.Option(help="Settings and rules of the verdict: shipped, or a file.")
    ] = "evaluation",
    changes: Changes = None,
    selection: Annotated[
        Path | None, typer.Option(help="Frozen choice; needed to score a package on the test split.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Score a further policy on the test split.")] = False,
    why: Annotated[str | None, typer.Option(help="Reason for --again, shown on the card.")] = None,
    ledger: Ledger = None,
    force: Force = False,
) -> None:
    """Evaluate a policy against the clinicians, by the published definitions and by sound ones.

    --set takes the section `evaluation`.
    """
    # imported here, because torch would slow down every other command
    from sepsis_cql.common.storage import new_directory
    from sepsis_cql.evaluation.evaluate import evaluate_policy, write_evaluation
    from sepsis_cql.evaluation.policies.load import load_policy
    from sepsis_cql.evaluation.settings import EvaluationSettings
    from sepsis_cql.evaluation.test_split import check_validation, enter_test_split
    from sepsis_cql.replay.directory import open_replay
    from sepsis_cql.synthetic.truth import open_truth

    changed = parse_changes(changes or [], ["evaluation"])["evaluation"]
    file = find_settings(config)
    settings = load_settings(EvaluationSettings, file, changed)
    opened = open_replay(replay)
    loaded = load_policy(policy)
    inputs = [replay, file, *list_files(policy, selection, ledger)]
    if split is Split.VALIDATION:
        check_validation(opened)
    with (
        new_directory(out, "evaluate", force=force, inputs=inputs) as directory,
        console.status("evaluate") as status,
    ):
        uses = None
        if split is Split.TEST:
            uses = enter_test_split(loaded, opened, selection, again=again, why=why, ledger=ledger)
        found = evaluate_policy(
            loaded,
            opened,
            split.value,
            protocol.value,
            settings,
            truth=open_truth(opened),
            test_split_uses=uses,
            report=lambda text: status.update(f"evaluate: {escape(text)}"),
        )
        write_evaluation(found, directory)
    print_metrics(out)
    console.print(escape(str(out)))


def print_metrics(directory: Path) -> None:
    """Print the verdict and the table of an evaluation directory."""
    from sepsis_cql.evaluation.estimators.table import list_captions
    from sepsis_cql.evaluation.record import load_evaluation

    found = load_evaluation(directory)
    if (old := found.published) is not None:
        line = (
            f"published protocol: FQE {old.fqe_mean:.2f} [{old.fqe_lower:.2f}, {old.fqe_upper:.2f}], "
            f"WIS {old.wis_mean:.2f} [{old.wis_lower:.2f}, {old.wis_upper:.2f}], ESS {old.ess:.1f}"
        )
        console.print(escape(line))
    if found.policies:
        captions = list_captions("terminal")
        names = ("policy", *captions.values(), "ESS", "mean weight", "truth", "verdict")
        table = Table(*(Column(name, overflow="fold") for name in names), box=SIMPLE_HEAD, padding=0)
        for policy in found.policies:
            cells = [_cell(policy.estimates.get(name)) for name in captions]
            if policy.role == "clinicians":
                cells = [_cell(policy.estimates["observed"]), *[""] * (len(captions) - 1)]
            truth = "" if policy.true_value is None else f"{policy.true_value.value:.2f}"
            verdict = "" if policy.verdict is None else policy.verdict.label
            weights = [f"{policy.weights.ess:.1f}", f"{policy.weights.mean_weight:.2f}"]
            name = policy.softening if policy.role == "softened" else policy.name
            table.add_row(escape(name), *cells, *weights, truth, verdict)
        console.print(table)
    console.print(f"[bold]Verdict: {found.verdict.label}[/] ({escape('; '.join(found.verdict.reasons))})")


def _cell(estimate: object) -> str:
    from sepsis_cql.evaluation.record import Estimate

    if not isinstance(estimate, Estimate) or estimate.value is None:
        return "undefined"
    if estimate.lower is None or estimate.upper is None:
        return f"{estimate.value:.2f}"
    return escape(f"{estimate.value:.2f} [{estimate.lower:.2f}, {estimate.upper:.2f}]")
