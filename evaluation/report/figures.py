"""Figures of an evaluation: one PNG each, drawn from the record alone."""

from collections.abc import Callable, Iterator
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from sepsis_cql.evaluation.record import Evaluation
from sepsis_cql.evaluation.report import decision_figures, value_figures
from sepsis_cql.evaluation.report.style import STYLE


def draw_figures(evaluation: Evaluation, directory: Path) -> dict[Path, str]:
    """Draw every figure the record has data for; returns what each file lets conclude, in the order of the report."""
    directory.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, figure in make_figures(evaluation):
        file = directory / f"{name}.png"
        figure.savefig(file, dpi=110, metadata={"Software": None})
        files[file] = figure.get_suptitle().replace("\n", " ")
    return files


def make_figures(evaluation: Evaluation) -> Iterator[tuple[str, Figure]]:
    """Yield name and figure of everything the record has data for; the style holds while the caller renders it."""
    with rc_context(STYLE):  # type: ignore[arg-type]
        for name, (draw, width) in FIGURES.items():
            figure = Figure(figsize=(width, 4.0), layout="constrained")
            if draw(figure, evaluation):
                yield name, figure


Draw = Callable[[Figure, Evaluation], bool]
FIGURES: dict[str, tuple[Draw, float]] = {
    "estimates": (value_figures.draw_estimates, 9),
    "softening": (value_figures.draw_softening, 9),
    "action_grids": (decision_figures.draw_action_grids, 10),
    "agreement_by_sofa": (decision_figures.draw_agreement, 6),
    "support": (decision_figures.draw_support, 6),
    "weights": (decision_figures.draw_weights, 8),
    "behavior_reliability": (decision_figures.draw_reliability, 5),
    "subgroups": (value_figures.draw_subgroups, 9),
    "q_calibration": (value_figures.draw_q_calibration, 5),
    "mortality_by_dose_difference": (decision_figures.draw_dose_difference, 8),
}
