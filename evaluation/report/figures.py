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
        for name, (draw, width, _) in FIGURES.items():
            figure = Figure(figsize=(width, 4.0), layout="constrained")
            if draw(figure, evaluation):
                yield name, figure


Draw = Callable[[Figure, Evaluation], bool]
FIGURES: dict[str, tuple[Draw, float, str]] = {  # with its width in inches and what it shows, for who cannot see it
    "estimates": (value_figures.draw_estimates, 9, "value of every policy with intervals, beside the clinicians'"),
    "softening": (value_figures.draw_softening, 9, "value and effective sample size between clinicians and policy"),
    "action_grids": (decision_figures.draw_action_grids, 10, "how often clinicians and policy give each dose"),
    "agreement_by_sofa": (decision_figures.draw_agreement, 6, "how often policy and clinicians agree, by SOFA"),
    "support": (decision_figures.draw_support, 6, "how rarely clinicians give what the policy advises"),
    "weights": (decision_figures.draw_weights, 8, "distribution of the episodes' weights"),
    "behavior_reliability": (decision_figures.draw_reliability, 5, "predicted and observed shares of doses"),
    "subgroups": (value_figures.draw_subgroups, 9, "clinicians' return and the policy's fitted value by subgroup"),
    "q_calibration": (value_figures.draw_q_calibration, 5, "return that followed, by the value the evaluator fitted"),
    "mortality_by_dose_difference": (decision_figures.draw_dose_difference, 8, "mortality by dose given above advised"),
}  # fmt: skip
