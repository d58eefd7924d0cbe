"""The picture of a study: the rank that each rule gives its runs, against their true values."""

from collections.abc import Callable, Iterator
from math import inf

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from sepsis_cql.evaluation.record import TrueValue
from sepsis_cql.evaluation.report.style import CLINICIANS, POLICY, SECOND, STYLE, Z, frame_source
from sepsis_cql.evaluation.study import Study, StudyRun

RULES: dict[str, Callable[[StudyRun], tuple[float, ...]]] = {
    "published rule: largest mean max-Q": lambda run: (_or_worst(run.score.published_fqe),),
    "sound rule: overlap, then lower bound": lambda run: (
        run.score.passes_gates,
        _or_worst(run.score.fqe_lower),
    ),
}
STUDY_FIGURES = {"selection": "true value of every run by its rank under the published and the sound rule"}
MARKS = {"published": ("v", "chosen by the published rule"), "sound": ("*", "chosen by the sound rule"),
         "reference": ("D", "the published card's own settings")}  # fmt: skip


def _or_worst(value: float | None) -> float:
    """A score, below all others where there is none."""
    return -inf if value is None else value


def make_study_figures(study: Study) -> Iterator[tuple[str, Figure]]:
    """Yield name and figure of every run's rank by each rule against its true value, where the truth is known."""
    if study.clinicians is None or any(run.truth.greedy is None for run in study.runs):
        return
    with rc_context(STYLE):  # type: ignore[arg-type]
        yield "selection", _draw_rules(study, study.clinicians)


def _draw_rules(study: Study, clinicians: TrueValue) -> Figure:
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    agreements = []
    for axes, (title, key) in zip(panels, RULES.items(), strict=True):
        order = sorted(range(len(study.runs)), key=lambda index: key(study.runs[index]), reverse=True)
        rank = {run: place + 1 for place, run in enumerate(order)}
        agreements.append(_draw(axes, study, rank, clinicians))
        axes.set_title(f"{title}\nSpearman with the truth {agreements[-1]:+.2f}")
        axes.set_xlabel("rank by the rule (1 = best)")
    panels[0].set_ylabel("true value in the simulator")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    published, sound = agreements
    nearer = "sound" if sound > published else "published" if published > sound else "neither"
    found = "neither does better" if nearer == "neither" else f"nearer to it is the {nearer} rule"
    frame_source(
        figure,
        "synthetic",  # the truth is known nowhere else
        f"validation split, {len(study.runs)} runs",
        f"Which rule orders the runs as the truth does? Of the two, {found}. A rule chooses a configuration by all its "
        "seeds, then its best seed: what it chose need not rank first.",
    )
    return figure


def _draw(axes: Axes, study: Study, rank: dict[int, int], clinicians: TrueValue) -> float:
    """Draw one rule's panel; return how far it agrees with the truth of the runs as they act."""
    places = [rank[index] for index in range(len(study.runs))]
    for name, fill in (("greedy", "C0"), ("judged", "none")):
        found = [getattr(run.truth, name) for run in study.runs]
        values = [value.value for value in found]
        label = {"greedy": "as it acts", "judged": "the version validation judged"}[name]
        axes.errorbar(
            places, values, yerr=[Z * value.standard_error for value in found], fmt="o", color=POLICY,
            markerfacecolor=fill, markersize=4, linewidth=0.6, label=label,
        )  # fmt: skip
    for rule, (mark, label) in MARKS.items():
        index = getattr(study.choices, rule)
        if index is not None and (truth := study.runs[index].truth.greedy) is not None:
            axes.plot(
                rank[index],
                truth.value,
                mark,
                markersize=11,
                markerfacecolor="none",
                color=SECOND,
                label=label,
            )
    axes.axhline(clinicians.value, color=CLINICIANS, linestyle=":", label="clinicians")
    true = [run.truth.greedy.value for run in study.runs if run.truth.greedy]
    return -float(spearmanr(places, true).statistic) if len(set(true)) > 1 else 0.0
