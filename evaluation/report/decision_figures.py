"""Figures of what a policy does: doses beside the clinicians', agreement, support, weights, and their behavior."""

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from sepsis_cql.evaluation.record import Evaluation
from sepsis_cql.evaluation.report.record import rank_group
from sepsis_cql.evaluation.report.style import (
    CLINICIANS,
    POLICY,
    frame,
    name_doses,
    name_group,
    share_interval,
    show_share,
)
from sepsis_cql.replay.rows.actions import N_BINS

LEAST = 1e-3  # share of decisions at the pale end of the color scale
HARDLY_EVER = 0.01  # clinicians' probability of a dose, below which it has no support, as with the gates
PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # behind a text that a line may cross
CAVEAT = (
    "No evidence of benefit: sicker patients get other doses (confounding by indication), and any policy near the "
    "usual dose shows this shape (Gottesman et al. 2018)."
)


def draw_action_grids(figure: Figure, found: Evaluation) -> bool:
    """Draw how often each dose is given and advised, on a log scale."""
    seen = found.diagnostics
    if seen is None:
        return False
    figure.set_figheight(4.7)
    grids = {"clinicians": seen.clinician_actions, "policy": seen.policy_actions}
    axes = figure.subplots(1, 2)
    edges = found.action_grid
    span = "a step" if found.step_hours is None else f"in {found.step_hours} h"
    for panel, (title, actions) in zip(axes, grids.items(), strict=True):
        shares = np.array(actions).reshape(N_BINS, N_BINS)
        image = panel.imshow(shares.clip(min=LEAST), origin="lower", cmap="cividis_r", norm=LogNorm(LEAST, 1))
        for row, column in np.ndindex(N_BINS, N_BINS):
            share = float(shares[row, column])
            color = "white" if share > 0.04 else "black"
            panel.text(column, row, show_share(share), ha="center", va="center", color=color)
        panel.spines[:].set_visible(False)
        panel.set_title(title)
        panel.set_xticks(range(N_BINS), name_doses(edges.fluid_edges if edges else None), rotation=30)
        panel.set_yticks(range(N_BINS), name_doses(edges.vasopressor_edges if edges else None))
        panel.set(xlabel=f"intravenous fluid, mL {span}", ylabel="norepinephrine equivalent,\nmcg/kg/min")
    bar = figure.colorbar(image, ax=axes, shrink=0.8, label="share of decisions, log scale")
    bar.set_ticks([0.001, 0.01, 0.1, 1], labels=["0.1% or less", "1%", "10%", "100%"])
    none = [show_share(actions[0]) for actions in grids.values()]
    frame(
        figure, found, f"No treatment at all: clinicians in {none[0]} of decisions, the policy in {none[1]}."
    )
    return True


def draw_agreement(figure: Figure, found: Evaluation) -> bool:
    """Draw how often the policy agrees with the clinicians, by severity."""
    seen = found.diagnostics
    if seen is None or not seen.agreement_by_sofa:
        return False
    rows = sorted(seen.agreement_by_sofa, key=lambda row: rank_group(row.group))
    axes = figure.add_subplot()
    places = range(len(rows))
    bars = axes.bar(places, [row.value for row in rows], color=POLICY, width=0.6)
    axes.axhline(seen.agreement, color=CLINICIANS, linestyle="--", label="all decisions")
    labels = [f"{show_share(row.value)}\n{row.n_patients} patients" for row in rows]
    axes.bar_label(bars, labels, padding=3, bbox=PAPER)
    axes.set_xticks(places, [name_group(row.group) for row in rows])
    axes.set(
        xlabel="SOFA when the step begins", ylabel="probability of the dose\nthe clinicians gave", ylim=(0, 1)
    )
    axes.legend()
    share = show_share(seen.agreement)
    frame(
        figure,
        found,
        f"The policy gives the clinicians' dose in {share} of decisions, which is no sign of benefit.",
    )
    return True


def draw_support(figure: Figure, found: Evaluation) -> bool:
    """Draw how many decisions of the policy fall on doses that clinicians hardly ever give."""
    rows = found.diagnostics.unsupported_share if found.diagnostics else []
    if not rows:
        return False
    axes = figure.add_subplot()
    labels, shares = [f"below {row.threshold:.3g}" for row in rows], [row.share for row in rows]
    bars = axes.bar(labels, shares, color=POLICY, width=0.6)
    axes.bar_label(bars, [show_share(share) for share in shares], padding=2)
    axes.set(
        xlabel="clinicians' probability of the advised dose (each bar holds those left of it)",
        ylabel="share of decisions",
        ylim=(0, max(0.05, 1.2 * max(shares))),
    )
    row = min(rows, key=lambda one: abs(one.threshold - HARDLY_EVER))
    text = f"Clinicians give {show_share(row.share)} of the advised doses less than once in {1 / row.threshold:.0f} "
    frame(figure, found, text + "times: the records say next to nothing of those.")
    return True


def draw_weights(figure: Figure, found: Evaluation) -> bool:
    """Draw the distribution of episode weights, those of zero apart, and the largest ones."""
    if found.diagnostics is None:
        return False
    weights = found.diagnostics.weights
    share = "nearly all" if weights.zero_share >= 0.995 else show_share(weights.zero_share)
    left, *others = figure.subplots(1, 1 + bool(weights.largest_shares), squeeze=False)[0]
    edges = np.array(weights.log10_edges)
    left.bar(edges[:-1], weights.shares, width=np.diff(edges), align="edge", color=POLICY, edgecolor="white")
    zero = edges[0] - 1.5
    left.bar(zero, weights.zero_share, width=0.8, color=CLINICIANS)
    left.text(zero, weights.zero_share, share, ha="center", va="bottom")
    ticks = edges[edges == np.rint(edges)][::2]
    left.set_xticks([zero, *ticks], ["0", *(f"$10^{{{tick:.0f}}}$" for tick in ticks)])
    left.set(xlabel="weight of an episode (zero apart)", ylabel="share of episodes", ylim=(0, 1.1))
    for right in others:  # absent where the record is a published one: a large weight is one patient's
        right.bar(range(1, len(weights.largest_shares) + 1), weights.largest_shares, color=POLICY)
        right.set(xlabel="episodes with the largest weights", ylabel="share of all weight", ylim=(0, 1))
        right.set_xticks(range(1, len(weights.largest_shares) + 1))
    text = f"{share[0].upper()}{share[1:]} of the weights are 0: estimates by weights learn nothing of the policy from "
    text += "those episodes."
    frame(figure, found, text)
    return True


def draw_reliability(figure: Figure, found: Evaluation) -> bool:
    """Draw predicted against observed frequency of the clinicians' likeliest dose."""
    cells = [] if found.behavior is None else found.behavior.reliability
    if not cells:
        return False
    axes = figure.add_subplot()
    predicted, observed = [cell.predicted for cell in cells], [cell.observed for cell in cells]
    axes.plot([0, 1], [0, 1], color=CLINICIANS, linestyle="--", label="agreement")
    bars = share_interval(observed, [cell.n for cell in cells])
    axes.errorbar(predicted, observed, bars, fmt="o", color=POLICY, label="decisions, 95% interval")
    for cell in cells:
        axes.annotate(f"{cell.n:,}", (cell.predicted, cell.observed), (5, -11), textcoords="offset points")
    axes.set(xlabel="predicted probability of the likeliest dose", ylabel="how often it was given")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.legend(loc="upper left")
    gap = sum(abs(cell.predicted - cell.observed) * cell.n for cell in cells) / sum(cell.n for cell in cells)
    text = f"The model of the clinicians is off by {100 * gap:.1f} percentage points on average; "
    frame(figure, found, text + "all weights rest on it.")
    return True


def draw_dose_difference(figure: Figure, found: Evaluation) -> bool:
    """Draw mortality by how much more the clinicians gave than the policy advises."""
    parts = dict(found.diagnostics.dose_difference) if found.diagnostics else {}
    if not any(parts.values()):
        return False
    panels = figure.subplots(1, 2)
    mortality = "mortality" if found.mortality_days is None else f"{found.mortality_days}-day mortality"
    for axes, (drug, rows) in zip(panels, parts.items(), strict=True):
        shares = [row.mortality for row in rows]
        bars = share_interval(shares, [row.n_episodes for row in rows])
        axes.errorbar([row.difference for row in rows], shares, bars, fmt="o", color=POLICY)
        for row, share, below in zip(rows, shares, bars[0], strict=True):
            place = {"xytext": (0, -3), "textcoords": "offset points", "ha": "center", "va": "top"}
            axes.annotate(f"{row.n_episodes}", (row.difference, share - below), bbox=PAPER, **place)
        axes.axvline(0, color=CLINICIANS, linestyle="--")
        axes.set(xlabel=f"{drug}: bins given above advised", ylabel=mortality, ylim=(0, 1))
        axes.set(xlim=(0.5 - N_BINS, N_BINS - 0.5), xticks=range(1 - N_BINS, N_BINS))
    frame(figure, found, f"{CAVEAT} Numbers are episodes, bars 95% intervals.")
    return True
