"""`sepsis-cql evaluate`: what can be said about a policy from a replay."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from sepsis_cql.configs.loading import load_settings

console = Console(highlight=False, soft_wrap=True)


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
    replay: Annotated[Path, typer.Option(help="Replay directory, or a file of the published format.")],
    out: Annotated[Path, typer.Option(help="Evaluation directory to create.")],
    split: Annotated[Split, typer.Option(help="Episodes to score.")] = Split.VALIDATION,
    protocol: Annotated[ProtocolName, typer.Option(help="Estimates to make.")] = ProtocolName.BOTH,
    bootstrap: Annotated[int, typer.Option(min=2, help="Resamples of the episodes.")] = 1000,
    config: Annotated[Path, typer.Option(help="Settings and rules of the verdict.")] = Path(
        "evaluation.yaml"
    ),
    selection: Annotated[
        Path | None, typer.Option(help="Frozen choice; needed to score a package on the test split.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Score a further policy on the test split.")] = False,
    why: Annotated[str | None, typer.Option(help="Reason for --again, shown on the card.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is in --out.")] = False,
) -> None:
    """Evaluate a policy against the clinicians, by the published definitions and by sound ones."""
    # imported here, because torch would slow down every other command
    from sepsis_cql.evaluation.discipline import enter_test_split
    from sepsis_cql.evaluation.evaluate import evaluate_policy, write_evaluation
    from sepsis_cql.evaluation.loading import load_policy
    from sepsis_cql.evaluation.settings import EvaluationSettings
    from sepsis_cql.storage import new_directory

    settings = load_settings(EvaluationSettings, config)
    loaded = load_policy(policy)
    with new_directory(out, force=force) as directory, console.status("evaluate") as status:
        uses = None
        if split is Split.TEST:
            uses = enter_test_split(loaded, replay, selection, again=again, why=why)
        findings = evaluate_policy(
            loaded,
            replay,
            split.value,
            protocol.value,
            bootstrap,
            settings,
            test_split_uses=uses,
            report=lambda text: status.update(f"evaluate: {escape(text)}"),
        )
        write_evaluation(findings, directory)
    print_metrics(out)
    console.print(escape(str(out)))


def print_metrics(directory: Path) -> None:
    """Print the verdict and the table of an evaluation directory."""
    from sepsis_cql.evaluation.record import load_evaluation

    found = load_evaluation(directory)
    if found.published is not None:
        line = "published protocol: " + ", ".join(
            f"{name.upper()} {found.published[f'{key}_mean']:.2f} "
            f"[{found.published[f'{key}_lower']:.2f}, {found.published[f'{key}_upper']:.2f}]"
            for name, key in (("FQE", "fqe"), ("WIS", "wis"))
        )
        console.print(escape(f"{line}, ESS {found.published['ess']:.1f}"))
    if found.policies:
        names = ("policy", "cross-fitted FQE", "WIS", "WDR", "ESS", "mean weight", "truth", "verdict")
        table = Table(*(Column(name, overflow="fold") for name in names), box=SIMPLE_HEAD, padding=0)
        for policy in found.policies:
            cells = [_cell(policy.estimates.get(name)) for name in ("fqe_cross_fitted", "wis", "wdr")]
            if policy.role == "clinicians":
                cells = [_cell(policy.estimates["observed"]), "", ""]
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
