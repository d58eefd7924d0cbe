"""Figures of an evaluation: one PNG each, drawn from the record alone."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sepsis_cql.evaluation.estimators.table import list_captions
from sepsis_cql.evaluation.record import Evaluation
from sepsis_cql.evaluation.report.record import Interval
from sepsis_cql.replay.rows.actions import N_BINS

CAVEAT = (
    "Not evidence of benefit: sicker patients get other doses (confounding by indication),\n"
    "and any policy near the usual dose shows this shape (Gottesman et al. 2018)."
)


def draw_figures(evaluation: Evaluation, directory: Path) -> list[Path]:
    """Draw every figure the record has data for; returns the files in the order of the report."""
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    for name, figure in make_figures(evaluation):
        files.append(directory / f"{name}.png")
        figure.savefig(files[-1], dpi=110, metadata={"Software": None})
    return files


def make_figures(evaluation: Evaluation) -> Iterator[tuple[str, Figure]]:
    """Yield name and figure of everything the record has data for."""
    for name, (draw, width) in FIGURES.items():
        figure = Figure(figsize=(width, 3.6), layout="constrained")
        if draw(figure, evaluation):
            yield name, figure


def _estimates(figure: Figure, found: Evaluation) -> bool:
    axes = figure.add_subplot()
    captions = list_captions("figures")
    for offset, name in enumerate(captions):
        for row, policy in enumerate(found.policies):
            estimate = policy.estimates.get(name)
            if estimate is None or estimate.value is None or estimate.lower is None or estimate.upper is None:
                continue
            y = row + 0.72 * ((offset + 0.5) / len(captions) - 0.5)
            axes.plot([estimate.lower, estimate.upper], [y, y], color=f"C{offset}")
            axes.plot(estimate.value, y, "o", color=f"C{offset}", markersize=3)
    for offset, caption in enumerate(captions.values()):
        axes.plot([], [], "o-", color=f"C{offset}", label=caption)
    axes.set_yticks(range(len(found.policies)), [policy.name[:45] for policy in found.policies], fontsize=6)
    axes.set(xlabel="value, 95% interval", xlim=(-4 / 3 * found.bound, 4 / 3 * found.bound))
    for end in (-found.bound, found.bound):
        axes.axvline(end, color="gray", linestyle=":")
    axes.legend(fontsize=6)
    axes.invert_yaxis()
    return bool(found.policies)


def _action_grids(figure: Figure, found: Evaluation) -> bool:
    seen = found.diagnostics
    if seen is None:
        return False
    grids = {"clinicians": seen.clinician_actions, "policy": seen.policy_actions}
    for place, (title, actions) in enumerate(grids.items()):
        axes = figure.add_subplot(1, 2, place + 1)
        shares = np.array(actions).reshape(N_BINS, N_BINS)
        axes.imshow(shares, origin="lower", cmap="Blues", vmin=0)
        for row, column in np.ndindex(N_BINS, N_BINS):
            axes.text(column, row, f"{shares[row, column]:.0%}", ha="center", va="center", fontsize=7)
        axes.set(title=title, xlabel="fluid bin", ylabel="vasopressor bin")
    return True


def _agreement(figure: Figure, found: Evaluation) -> bool:
    seen = found.diagnostics
    if seen is None:
        return False
    axes = figure.add_subplot()
    _bars(axes, [row.group for row in seen.agreement_by_sofa], [row.value for row in seen.agreement_by_sofa])
    axes.axhline(seen.agreement, color="gray", linestyle=":", label="overall")
    axes.set(xlabel="SOFA at step start", ylabel="probability the policy gives\nto the clinicians' action")
    axes.legend()
    return bool(seen.agreement_by_sofa)


def _support(figure: Figure, found: Evaluation) -> bool:
    rows = found.diagnostics.unsupported_share if found.diagnostics else []
    axes = figure.add_subplot()
    _bars(axes, [f"< {row.threshold:g}" for row in rows], [row.share for row in rows])
    axes.set(xlabel="clinicians' probability of the advised action", ylabel="share of decisions")
    return bool(rows)


def _weights(figure: Figure, found: Evaluation) -> bool:
    if found.diagnostics is None:
        return False
    weights = found.diagnostics.weights
    left, *others = figure.subplots(1, 1 + bool(weights.largest_shares), squeeze=False)[0]
    edges = np.array(weights.log10_edges)
    left.bar(edges[:-1], weights.shares, width=0.5, align="edge")
    left.set(
        xlabel="log10 episode weight",
        ylabel="share of episodes",
        title=f"{weights.zero_share:.0%} of weights are 0",
    )
    for right in others:  # absent where the record is a published one: a large weight is one patient's
        _bars(right, list(range(1, len(weights.largest_shares) + 1)), weights.largest_shares)
        right.set(xlabel="episodes with the largest weights", ylabel="share of all weight")
    return True


def _softening(figure: Figure, found: Evaluation) -> bool:
    rows = [policy for role in ("softened", "learned") for policy in found.policies if policy.role == role]
    left, right = figure.subplots(1, 2)
    labels = [policy.softening.replace("clinicians x ", "") for policy in rows]
    for name, caption in list_captions("figures").items():
        if all(name in policy.estimates for policy in rows):
            values = [policy.estimates[name].value for policy in rows]
            left.plot(labels, [np.nan if value is None else value for value in values], "o-", label=caption)
    left.set(ylabel="value", ylim=(-16 / 15 * found.bound, 16 / 15 * found.bound))
    left.legend(fontsize=7)
    sizes = [np.nan if policy.weights.ess_share is None else policy.weights.ess_share for policy in rows]
    right.plot(labels, sizes, "o-", color="black")
    right.set(ylabel="ESS / episodes", ylim=(0, 1.05))
    for axes in (left, right):
        axes.tick_params(axis="x", rotation=60, labelsize=6)
    return bool(rows)


def _reliability(figure: Figure, found: Evaluation) -> bool:
    cells = [] if found.behavior is None else found.behavior.reliability
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="gray", linestyle=":")
    axes.plot([cell.predicted for cell in cells], [cell.observed for cell in cells], "o-")
    axes.set(xlabel="predicted probability of the likeliest action", ylabel="how often it was given")
    return bool(cells)


def _subgroups(figure: Figure, found: Evaluation) -> bool:
    rows = found.diagnostics.subgroups if found.diagnostics else []
    axes = figure.add_subplot()
    _draw_intervals(axes, [row.clinicians for row in rows], 0, "clinicians")
    _draw_intervals(axes, [row.policy_fqe for row in rows], 1, "policy, cross-fitted FQE")
    labels = [f"{row.characteristic}: {row.group} ({row.n_episodes})" for row in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=5)
    axes.set(xlabel="mean return; 95% interval")
    axes.legend(fontsize=6)
    return bool(rows)


def _q_calibration(figure: Figure, found: Evaluation) -> bool:
    rows = found.diagnostics.q_calibration if found.diagnostics else []
    axes = figure.add_subplot()
    axes.plot([-found.bound, found.bound], [-found.bound, found.bound], color="gray", linestyle=":")
    axes.plot([row.predicted for row in rows], [row.observed for row in rows], "o-")
    axes.set(
        xlabel="fitted value of the clinicians' first action, fifths", ylabel="mean return that followed"
    )
    return bool(rows)


def _dose_difference(figure: Figure, found: Evaluation) -> bool:
    parts = dict(found.diagnostics.dose_difference) if found.diagnostics else {}
    figure.suptitle(CAVEAT, fontsize=7)
    for place, (drug, rows) in enumerate(parts.items()):
        axes = figure.add_subplot(1, 2, place + 1)
        axes.plot([row.difference for row in rows], [row.mortality for row in rows], "o-")
        axes.set(xlabel=f"{drug} given minus advised, bins", ylabel="90-day mortality", ylim=(0, 1))
    return any(parts.values())


def _draw_intervals(axes: Axes, rows: list[Interval], offset: int, label: str) -> None:
    """Draw each value with its interval, one row above the other."""
    for y, row in enumerate(rows):
        if row.value is not None:
            height = y + 0.2 * offset
            if row.lower is not None and row.upper is not None:
                axes.plot([row.lower, row.upper], [height, height], color=f"C{offset}")
            axes.plot(row.value, height, "o", color=f"C{offset}", markersize=3)
    axes.plot([], [], "o-", color=f"C{offset}", label=label)


def _bars(axes: Axes, labels: list[Any], values: list[float]) -> None:
    axes.bar([str(label) for label in labels], values)


Draw = Callable[[Figure, Evaluation], bool]
FIGURES: dict[str, tuple[Draw, float]] = {
    "estimates": (_estimates, 8),
    "softening": (_softening, 8),
    "action_grids": (_action_grids, 8),
    "agreement_by_sofa": (_agreement, 5),
    "support": (_support, 5),
    "weights": (_weights, 8),
    "behavior_reliability": (_reliability, 4),
    "subgroups": (_subgroups, 8),
    "q_calibration": (_q_calibration, 4),
    "mortality_by_dose_difference": (_dose_difference, 8),
}
