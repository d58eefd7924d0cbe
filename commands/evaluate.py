"""`sepsis-cql evaluate`: what can be said about a policy from a replay."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.padding import Padding

from sepsis_cql.commands.early import check_policy, check_replay, check_selection
from sepsis_cql.commands.options import (
    Again,
    Changes,
    Force,
    Ledger,
    ReplayPath,
    SplitName,
    Why,
    list_files,
)
from sepsis_cql.commands.output import Work, console, new_table
from sepsis_cql.common.strict import find_settings, load_settings, parse_changes

if TYPE_CHECKING:
    from sepsis_cql.evaluation.record import Evaluation

MAIN = "fqe_cross_fitted"  # the estimate that the narrow table shows
WIDE = 160  # columns
ENOUGH = 10.0  # effective episodes, from which their decimals say nothing


def evaluate(
    policy: Annotated[
        str,
        typer.Option(
            help="Package directory, Hub id@revision, published .pt, d3rlpy .d3, or module:function."
        ),
    ],
    replay: ReplayPath,
    out: Annotated[Path, typer.Option(help="Evaluation directory to create.")],
    split: Annotated[SplitName, typer.Option(help="Episodes to score.")] = "validation",
    protocol: Annotated[
        Literal["published", "sound", "both"], typer.Option(help="Estimates to make.")
    ] = "both",
    config: Annotated[
        str, typer.Option(help="Settings and rules of the verdict: shipped, or a file.")
    ] = "evaluation",
    changes: Changes = None,
    selection: Annotated[
        Path | None, typer.Option(help="Frozen choice; needed to score a package on the test split.")
    ] = None,
    again: Again = False,
    why: Why = None,
    ledger: Ledger = None,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Estimate again with other discounts, horizons and rewards.")
    ] = False,
    wide: Annotated[bool, typer.Option("--wide", help="Print every estimate, in a wide table.")] = False,
    force: Force = False,
) -> None:
    """Evaluate a policy against the clinicians, by the published definitions and by sound ones.

    --set takes the section `evaluation`.
    """
    changed = parse_changes(changes or [], ["evaluation"])["evaluation"]
    file = find_settings(config, "tilt_temperatures")
    check_replay(replay)
    sources = check_policy(policy)
    check_selection(selection, split, again=again, why=why)
    # imported here, because torch would slow down every other command
    from sepsis_cql.common.storage import new_directory
    from sepsis_cql.evaluation.evaluate import evaluate_policy, write_evaluation
    from sepsis_cql.evaluation.policies.load import load_policy, probe_policy
    from sepsis_cql.evaluation.settings import EvaluationSettings
    from sepsis_cql.evaluation.test_split import enter_test_split, frozen_version, ledger_of
    from sepsis_cql.publishing.explorer import explore_evaluated
    from sepsis_cql.replay.directory import open_replay
    from sepsis_cql.synthetic.truth import open_truth

    settings = load_settings(EvaluationSettings, file, changed)
    opened = open_replay(replay)
    loaded = load_policy(policy)
    inputs = [replay, file, *sources, *list_files(selection, ledger)]
    with new_directory(out, "evaluate", force=force, inputs=inputs) as directory, Work("evaluate") as work:
        # after --out is known to be good, before the test split is entered
        probe_policy(loaded, opened, needs_values=protocol == "published")
        uses = frozen = None
        if split == "test":
            frozen = frozen_version(selection, loaded.facts.kind)
            uses = enter_test_split(loaded, opened, selection, again=again, why=why, ledger=ledger)
        found = evaluate_policy(
            loaded,
            opened,
            split,
            protocol,
            settings,
            truth=open_truth(opened),
            test_split_uses=uses,
            frozen=frozen,
            sensitivity=sensitivity,
            report=work,
        )
        if uses is not None:
            found = found.model_copy(update={"ledger": ledger_of(opened, ledger)})
        explorer = explore_evaluated(Path(policy), found, opened) if Path(policy).is_dir() else None
        write_evaluation(found, directory, explorer)
    print_metrics(out, wide=wide)
    console.print(escape(str(out)))
    console.answer(found.model_dump(mode="json"))


def print_metrics(directory: Path, *, wide: bool = False) -> None:
    """Print the verdict and the table of an evaluation directory, within 80 columns or with every estimate."""
    from sepsis_cql.evaluation.record import load_evaluation
    from sepsis_cql.evaluation.report.results import FAILED, find_published

    found, said = load_evaluation(directory), list[str]()
    if (old := found.published) is not None:
        fqe, wis = said = [str(find_published(old, name, found.bound) or FAILED) for name in ("fqe", "wis")]
        console.print(escape(f"published protocol: FQE {fqe}, WIS {wis}, ESS {old.ess:.1f}"))
    if found.policies:
        said += _print_table(found, wide=wide)
    explain_failed(said, found.bound)
    console.print(f"[bold]Verdict: {found.verdict.label}[/]")
    about = [] if found.frozen is None else [f"about the version that validation froze: {found.frozen}"]
    for reason in [*about, *found.verdict.reasons]:
        console.print(Padding(escape(reason), (0, 0, 0, 2)), soft_wrap=False)


def explain_failed(said: list[str], bound: float) -> None:
    """Print what "failed" means, if it was said of an estimate."""
    from sepsis_cql.evaluation.report.results import FAILED, WHY_FAILED

    if FAILED in said:
        console.print(f"{FAILED}: {WHY_FAILED.format(bound)}.", soft_wrap=False)


def _print_table(found: "Evaluation", *, wide: bool) -> list[str]:
    """Print a row for every policy; return what it says of estimates."""
    from sepsis_cql.evaluation.estimators.table import list_captions
    from sepsis_cql.evaluation.report.results import FAILED, find_result, name_policy

    captions = list_captions("terminal") if wide else {MAIN: list_captions()[MAIN]}
    table = new_table()
    table.add_column("policy", overflow="fold")
    for caption in captions.values():
        table.add_column(caption, no_wrap=True, min_width=22)
    has_truth = any(policy.true_value is not None for policy in found.policies)
    for heading in ("ESS", *(["mean weight"] if wide else []), *(["truth"] if has_truth else [])):
        table.add_column(heading, no_wrap=True, justify="right")
    table.add_column("verdict", overflow="fold")
    shown = []
    for policy in found.policies:
        is_clinicians = policy.role == "clinicians"
        names = ["observed"] * len(captions) if is_clinicians else list(captions)
        cells = [escape(str(find_result(policy, name, found.bound) or FAILED)) for name in names]
        shown += cells
        if is_clinicians:
            cells[1:] = [""] * (len(captions) - 1)
        ess = policy.weights.ess
        weights = [f"{ess:.0f}" if ess >= ENOUGH else f"{ess:.1f}"]
        if wide:
            weights.append(f"{policy.weights.mean_weight:.2f}")
        if has_truth:
            weights.append("" if policy.true_value is None else f"{policy.true_value.value:.2f}")
        verdict = "" if policy.verdict is None else policy.verdict.label
        name = name_policy(policy.name, found.policy.name).replace(" / ", "/")
        table.add_row(escape(name), *cells, *weights, verdict)
    width = console.width
    try:
        console.width = WIDE if wide else width
        console.print(table, soft_wrap=wide)
    finally:
        console.width = width
    return shown
