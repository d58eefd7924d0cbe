"""`sepsis-cql calibrate`: estimators against known truth."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress, TaskID

from sepsis_cql.commands.options import Changes, console
from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.common.ownership import one_writer
from sepsis_cql.common.storage import open_directory, write_json
from sepsis_cql.common.strict import find_settings, load_settings, parse_changes, read_yaml


def calibrate(
    out: Annotated[Path, typer.Option(help="Directory that receives one JSON file for each case.")],
    case: Annotated[list[str] | None, typer.Option(help="Only this case; may be repeated.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    config: Annotated[str, typer.Option(help="Cases and settings: shipped, or a file.")] = "calibration",
    evaluation: Annotated[
        str, typer.Option(help="Settings of the evaluation: shipped, or a file.")
    ] = "evaluation",
    changes: Changes = None,
) -> None:
    """Measure bias, error, coverage and ranking of every estimator where the truth is known.

    --set takes the sections `calibration` and `evaluation`.
    """
    changed = parse_changes(changes or [], ["calibration", "evaluation"])
    files = [find_settings(config, "repetitions"), find_settings(evaluation, "tilt_temperatures")]
    cases = set(read_yaml(files[0]).get("cases") or {}) | set(changed["calibration"].get("cases") or {})
    if unknown := sorted(set(case or []) - cases):
        raise EvaluationError(f"{config}: found no case {unknown}. Expected one of {sorted(cases)}.")
    # imported here, because torch would slow down every other command
    from sepsis_cql.evaluation.known_truth.calibrate import CalibrationSettings
    from sepsis_cql.evaluation.settings import EvaluationSettings

    settings = load_settings(CalibrationSettings, files[0], changed["calibration"])
    rules = load_settings(EvaluationSettings, files[1], changed["evaluation"])
    with one_writer(out, "calibrate"):
        open_directory(out, "calibrate", resume=True, force=False, inputs=files)
        _run_cases(case or list(settings.cases), settings, rules, out, jobs)


def _run_cases(cases: list[str], settings: Any, rules: Any, out: Path, jobs: int) -> None:
    from sepsis_cql.evaluation.known_truth.calibrate import calibrate as run

    for name in cases:
        with Progress(console=console) as progress:
            record = run(
                name,
                settings,
                rules,
                jobs=jobs,
                report=partial(_show, progress, progress.add_task(name, total=settings.repetitions)),
            )
        write_json(out / f"{name}.json", record.model_dump(mode="json"))
        console.print(f"{name}: {out / name}.json")
        for policy in record.policies:
            quality = policy.estimators[record.recommended]
            console.print(
                f"  {policy.name}: true {policy.true_value:.2f}, {record.recommended} bias {quality.bias:+.2f}, "
                f"coverage {quality.coverage:.3f}, gates hold {policy.passes_gates:.0%}, "
                f"endorsed {policy.endorsed:.0%}"
            )


def _show(progress: Progress, task: TaskID, done: int) -> None:
    progress.update(task, completed=done)
