"""`sepsis-cql calibrate`: estimators against known truth."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from sepsis_cql.configs.loading import load_settings
from sepsis_cql.errors import EvaluationError

console = Console(highlight=False, soft_wrap=True)


def calibrate(
    out: Annotated[Path, typer.Option(help="Directory that receives one JSON file for each case.")],
    case: Annotated[list[str] | None, typer.Option(help="Only this case; may be repeated.")] = None,
    repetitions: Annotated[int | None, typer.Option(min=2, help="Instead of those in the settings.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    config: Annotated[Path, typer.Option(help="Cases and settings.")] = Path("calibration.yaml"),
) -> None:
    """Measure bias, error, coverage and ranking of every estimator where the truth is known."""
    # imported here, because torch would slow down every other command
    from sepsis_cql.evaluation.calibration import CalibrationSettings
    from sepsis_cql.evaluation.calibration import calibrate as run
    from sepsis_cql.evaluation.settings import EvaluationSettings
    from sepsis_cql.storage import write_json

    changes = {} if repetitions is None else {"repetitions": repetitions}
    settings = load_settings(CalibrationSettings, config, changes)
    evaluation = load_settings(EvaluationSettings, Path("evaluation.yaml"))
    if unknown := sorted(set(case or []) - set(settings.cases)):
        raise EvaluationError(f"{config}: found no case {unknown}. Expected one of {sorted(settings.cases)}.")
    out.mkdir(parents=True, exist_ok=True)
    for name in case or settings.cases:
        with Progress(console=console) as progress:
            record = run(
                name,
                settings,
                evaluation,
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
