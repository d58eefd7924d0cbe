"""`sepsis-cql compare`: several learners under one protocol, one budget and one verdict."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from sepsis_cql.commands.early import check_out, check_replay
from sepsis_cql.commands.options import (
    Changes,
    Force,
    Ledger,
    ReplayPath,
    Resume,
    Rules,
    Runtime,
    SplitName,
    find_runtime,
    list_files,
)
from sepsis_cql.commands.output import Work, console, print_rows
from sepsis_cql.common.errors import EvaluationError, StoppedError
from sepsis_cql.common.ownership import one_writer
from sepsis_cql.common.storage import open_directory, write_json
from sepsis_cql.common.strict import find_settings, list_names, load_settings, parse_changes


def compare(
    replay: ReplayPath,
    out: Annotated[Path, typer.Option(help="Directory of the comparison, with the runs of every learner.")],
    learners: Annotated[
        str | None,
        typer.Option(help="Names with commas between, as cql,iql,bcq; by default all with a grid."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Seeds of each; by default all of the file.")
    ] = None,
    split: Annotated[
        SplitName, typer.Option(help="Episodes of the results; validation chose and endorses nothing.")
    ] = "validation",
    config: Annotated[
        str, typer.Option(help="Grids, seeds and schedule: shipped, or a file.")
    ] = "comparison",
    evaluation: Rules = "evaluation",
    runtime: Runtime = None,
    changes: Changes = None,
    why: Annotated[
        str | None, typer.Option(help="Reason to score several policies on the test split, for the ledger.")
    ] = None,
    ledger: Ledger = None,
    resume: Resume = False,
    force: Force = False,
) -> None:
    """Compare learners: the same tuning for each, chosen on validation, all seeds judged by sound and published rules.

    --set takes the sections `comparison`, `evaluation` and `runtime`.
    """
    changed = parse_changes(changes or [], ["comparison", "evaluation", "runtime"])
    files = [find_settings(config, "grids"), find_settings(evaluation, "tilt_temperatures")]
    known = list_names(files[0], changed["comparison"], "grids")
    names = known if learners is None else [name.strip() for name in learners.split(",")]
    if (unknown := sorted(set(names) - set(known))) or len(set(names)) < len(names):
        raise EvaluationError(
            f"--learners: found {unknown or names}, expected different names of {sorted(known)}. Give others a grid "
            "in a file for --config."
        )
    if split == "test" and not (why or "").strip():
        raise EvaluationError(
            "--split test: several policies would see the test split and no reason was given. Say it with "
            '--why "REASON", or use --split validation.'
        )
    check_replay(replay)
    if replay.is_file():
        raise EvaluationError(
            f"{replay}: found a single file, expected a directory with validation episodes."
        )
    inputs = [replay, *files, *find_runtime(runtime), *list_files(ledger)]
    with one_writer(out, "compare"):  # who writes there is told at once; it is held again below
        check_out(out, "compare", resume=resume, force=force, inputs=inputs)
    # imported here, because torch would slow down every other command
    from sepsis_cql.evaluation.comparison.compare import Arena, compare_learners
    from sepsis_cql.evaluation.comparison.figure import draw_comparison
    from sepsis_cql.evaluation.comparison.record import RECORD, ComparisonSettings
    from sepsis_cql.evaluation.comparison.show import list_rows, render_table, say_findings
    from sepsis_cql.evaluation.data import load_evaluation_data
    from sepsis_cql.evaluation.settings import EvaluationSettings
    from sepsis_cql.evaluation.test_split import check_splits, note_test_split
    from sepsis_cql.replay.directory import open_replay
    from sepsis_cql.synthetic.truth import open_truth
    from sepsis_cql.training.devices import load_runtime

    settings = load_settings(ComparisonSettings, files[0], changed["comparison"])
    if seeds is not None:
        if seeds > len(settings.seeds):
            raise EvaluationError(
                f"--seeds: found {seeds}, expected at most the {len(settings.seeds)} of {config}. Add some there."
            )
        settings = settings.model_copy(update={"seeds": settings.seeds[:seeds]})
    rules = load_settings(EvaluationSettings, files[1], changed["evaluation"])
    chosen_runtime = load_runtime(runtime, changed["runtime"])
    opened = open_replay(replay)
    check_splits(opened)

    def enter(sha256: str) -> None:
        if split == "test":
            note_test_split(sha256, opened, again=True, why=why, ledger=ledger)

    with one_writer(out, "compare"), Work("compare") as work:
        open_directory(out, "compare", resume=resume, force=force, inputs=inputs)
        validation = load_evaluation_data(opened, "validation", rules)
        scored = validation if split == "validation" else load_evaluation_data(opened, "test", rules)
        try:
            found = compare_learners(
                names,
                Arena(opened, validation, scored, split, open_truth(opened)),
                settings,
                rules,
                chosen_runtime,
                out,
                enter=enter,
                report=work,
            )
        except KeyboardInterrupt:
            raise StoppedError(f"Continue with --resume; runs are in {out}.") from None
        table = render_table(found)
        text = "\n".join([table, *(f"- {line}" for line in say_findings(found))]) + "\n"
        (out / "comparison.md").write_text(text, encoding="utf-8")
        draw_comparison(found, out / "comparison.png")
        write_json(out / RECORD, found.model_dump(mode="json"))
    shown = ("learner", "sound value", "difference", "ESS", "truth", "verdicts")
    print_rows(shown, list_rows(found, shown))
    for line in say_findings(found):
        console.print(escape(f"- {line}"))
    console.print(f"every column: {escape(str(out / 'comparison.md'))}")
    console.print(escape(str(out / RECORD)))
    console.answer(found.model_dump(mode="json"))
