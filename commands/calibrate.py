"""`sepsis-cql calibrate`: estimators against known truth."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from sepsis_cql.commands.options import Changes, Rules
from sepsis_cql.commands.output import Bar, console, print_rows
from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.common.ownership import one_writer
from sepsis_cql.common.storage import open_directory, write_json
from sepsis_cql.common.strict import find_settings, list_names, load_settings, parse_changes


def calibrate(
    out: Annotated[Path, typer.Option(help="Directory that receives one JSON file for each case.")],
    case: Annotated[list[str] | None, typer.Option(help="Only this case; may be repeated.")] = None,
    jobs: Annotated[int, typer.Option(min=1, max=1024, help="Processes.")] = os.cpu_count() or 1,
    config: Annotated[str, typer.Option(help="Cases and settings: shipped, or a file.")] = "calibration",
    evaluation: Rules = "evaluation",
    changes: Changes = None,
) -> None:
    """Measure estimators and verdict where the truth is known: bias, coverage, ranking, wrong endorsements.

    A run that was stopped goes on where it was, from NAME.repetitions.jsonl in the directory of --out.

    --set takes the sections `calibration` and `evaluation`.
    """
    changed = parse_changes(changes or [], ["calibration", "evaluation"])
    files = [find_settings(config, "repetitions"), find_settings(evaluation, "tilt_temperatures")]
    cases = list_names(files[0], changed["calibration"], "cases")
    if unknown := sorted(set(case or []) - set(cases)):
        raise EvaluationError(f"{config}: found no case {unknown}. Expected one of {sorted(cases)}.")
    # imported here, because torch would slow down every other command
    from sepsis_cql.evaluation.known_truth.settings import CalibrationSettings
    from sepsis_cql.evaluation.settings import EvaluationSettings

    settings = load_settings(CalibrationSettings, files[0], changed["calibration"])
    rules = load_settings(EvaluationSettings, files[1], changed["evaluation"])
    with one_writer(out, "calibrate"):
        open_directory(out, "calibrate", resume=True, force=False, inputs=files)
        _run_cases(case or list(settings.cases), settings, rules, out, jobs)


def _run_cases(cases: list[str], settings: Any, rules: Any, out: Path, jobs: int) -> None:
    from sepsis_cql.evaluation.known_truth.calibrate import calibrate as run

    records = {}
    for name in cases:
        with Bar() as bar:
            task = bar.add_task(name, total=settings.repetitions_of(name))
            record = run(name, settings, rules, out, jobs=jobs, report=partial(bar.advance_to, task))
        records[name] = record.model_dump(mode="json")
        write_json(out / f"{name}.json", records[name])
        console.print(f"{name}: {out / name}.json")
        rows = [
            (
                policy.name,
                f"{policy.true_gain:+.2f}",
                "undefined" if policy.difference.bias is None else f"{policy.difference.bias:+.2f}",
                f"{policy.difference.coverage:.2f}",
                f"{policy.passes_gates:.0%}",
                f"{policy.endorsed.value:.0%}",
                f"{policy.wrongly_endorsed.value:.1%} "
                f"[{policy.wrongly_endorsed.lower:.1%}, {policy.wrongly_endorsed.upper:.1%}]",
            )
            for policy in record.policies
        ]
        print_rows(("policy", "gain", "bias", "cover", "gates", "endorsed", "wrongly"), rows)
        console.print(
            "gain: truly, over the clinicians; bias, cover: of the recommended difference; gates, endorsed, wrongly: "
            "share of repetitions",
            soft_wrap=False,
        )
    console.answer({"out": str(out), "cases": records})
