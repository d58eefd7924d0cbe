"""Figures of what a policy is worth: estimates beside clinicians and truth, by softening, by group, and their scale."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from sepsis_cql.common.privacy import SMALLEST_CELL
from sepsis_cql.evaluation.estimators.table import list_captions
from sepsis_cql.evaluation.record import Evaluation, PolicyRecord
from sepsis_cql.evaluation.report.record import Interval
from sepsis_cql.evaluation.report.results import Result, find_result, make_result, name_policy
from sepsis_cql.evaluation.report.style import (
    CLINICIANS,
    POLICY,
    SECOND,
    TRUTH,
    Z,
    draw_key,
    draw_result,
    frame,
    label_return,
    name_group,
)

OBSERVED = "observed"


def draw_estimates(figure: Figure, found: Evaluation) -> bool:
    """Draw a forest of the recommended and the independent estimate of each policy, with the clinicians' line."""
    policies = [policy for policy in found.policies if policy.role != "clinicians"]
    if not policies:
        return False
    recommended, independent = _estimators(policies[0])
    figure.set_figheight(1.7 + 0.42 * len(policies))
    axes = figure.add_subplot()
    observed = _draw_clinicians(axes, found)
    above = 0
    for row, policy in enumerate(policies):
        main, other = (find_result(policy, name, found.bound) for name in (recommended, independent))
        if main is None:
            axes.text(-found.bound, row, " failed", va="center", color=CLINICIANS)
        else:
            draw_result(axes, main, row - 0.12, POLICY)
            above += bool(observed and main.lower is not None and main.lower > observed.value)
        if other is not None:
            draw_result(axes, other, row + 0.16, SECOND, "s")
        if policy.true_value is not None:
            axes.plot(policy.true_value.value, row - 0.12, "D", color=TRUTH, markersize=7, fillstyle="none")
        size = policy.weights.ess
        text = f"<{SMALLEST_CELL}" if size < SMALLEST_CELL else f"{size:.0f}"
        axes.text(1.01, row, text, va="center", transform=axes.get_yaxis_transform())
    axes.text(1.01, -0.8, "ESS", weight="bold", transform=axes.get_yaxis_transform())
    captions = list_captions()
    draw_key(axes, f"{captions[recommended]}, 95% interval", POLICY)
    draw_key(axes, f"{captions[independent]}, 95% interval", SECOND, "s")
    if any(policy.true_value for policy in policies):
        axes.plot([], [], "D", color=TRUTH, fillstyle="none", label="true value")
    axes.set_yticks(range(len(policies)), [name_policy(one.name, found.policy.name)[:45] for one in policies])
    axes.set(xlabel=label_return(found), xlim=(-found.bound, found.bound), ylim=(len(policies) - 0.4, -0.6))
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=2)
    end = f"{above} of {len(policies)} intervals lie wholly above the clinicians' mean, which endorses none by itself."
    judged = "the policy as it acts" if found.frozen in (None, "greedy", "none") else found.frozen
    frame(figure, found, f"Verdict on {judged}: {found.verdict.label}. {end}")
    return True


def draw_softening(figure: Figure, found: Evaluation) -> bool:
    """Draw value and effective sample size as the policy moves away from the clinicians."""
    rows = [policy for role in ("softened", "learned") for policy in found.policies if policy.role == role]
    if not rows:
        return False
    recommended, _ = _estimators(rows[0])
    left, right = figure.subplots(1, 2)
    observed = next((policy for policy in found.policies if policy.role == "clinicians"), None)
    if observed and (mean := find_result(observed, OBSERVED, found.bound)):
        left.axhline(mean.value, color=CLINICIANS, linestyle="--", label="clinicians, observed")
    for x, policy in enumerate(rows):
        if result := find_result(policy, recommended, found.bound):
            if result.lower is not None and result.upper is not None:
                left.plot([x, x], [result.lower, result.upper], color=POLICY)
            left.plot(x, result.value, "o", color=POLICY)
        if policy.true_value:
            left.plot(x, policy.true_value.value, "D", color=TRUTH, fillstyle="none", markersize=7)
    draw_key(left, list_captions()[recommended], POLICY)
    if any(policy.true_value for policy in rows):
        left.plot([], [], "D", color=TRUTH, fillstyle="none", label="true value")
    left.set(ylabel="expected return", ylim=(-found.bound, found.bound))
    left.legend(loc="lower left")
    sizes = [policy.weights.ess for policy in rows]
    right.plot(range(len(rows)), sizes, "o-", color=POLICY)
    right.set(ylabel="effective sample size, episodes", ylim=(0, None))
    labels = [_shorten(policy) for policy in rows]
    for axes in (left, right):
        axes.set_xticks(range(len(rows)), labels)
        axes.set_xlabel("near the clinicians → the policy as it acts")
    shown = [f"<{SMALLEST_CELL}" if size < SMALLEST_CELL else f"{size:.0f}" for size in (sizes[0], sizes[-1])]
    text = f"Episodes that speak for the policy: {shown[0]} nearest to the clinicians, {shown[1]} as it acts."
    frame(figure, found, text)
    return True


def draw_subgroups(figure: Figure, found: Evaluation) -> bool:
    """Draw observed return and fitted value in each group of patients."""
    rows = found.diagnostics.subgroups if found.diagnostics else []
    if not rows:
        return False
    figure.set_figheight(1.8 + 0.3 * len(rows))
    axes = figure.add_subplot()
    lower = compared = 0
    for y, row in enumerate(rows):
        given, fitted = (_result(one, found.bound) for one in (row.clinicians, row.policy_fqe))
        if given is not None:
            draw_result(axes, given, y - 0.15, CLINICIANS, "s")
        if fitted is not None:
            draw_result(axes, fitted, y + 0.15, POLICY)
            compared += given is not None
            lower += given is not None and fitted.value < given.value
        if y and row.characteristic != rows[y - 1].characteristic:
            axes.axhline(y - 0.5, color="#CCCCCC", linewidth=0.8)
    labels = [f"{row.characteristic}: {name_group(row.group)} ({row.n_episodes})" for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.set(xlabel=label_return(found), xlim=(-found.bound, found.bound), ylim=(len(rows) - 0.5, -0.5))
    draw_key(axes, "clinicians, mean return", CLINICIANS, "s")
    draw_key(axes, "policy, cross-fitted FQE, 95% intervals", POLICY)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=2)
    verdict = found.policies[0].verdict if found.policies else None
    said = f"Verdict on the policy as it acts: {verdict.label}, and no more of any group. " if verdict else ""
    text = f"In {lower} of {compared} groups its fitted value is below the clinicians' return. In brackets: episodes."
    frame(figure, found, said + text)
    return True


def draw_q_calibration(figure: Figure, found: Evaluation) -> bool:
    """Draw the return that followed by the value that the evaluator gave the clinicians' first action."""
    rows = found.diagnostics.q_calibration if found.diagnostics else []
    if not rows or isinstance(found.n_episodes, str):
        return False
    predicted, observed = (
        np.array([getattr(row, name) for row in rows]) for name in ("predicted", "observed")
    )
    half = Z * np.sqrt((found.bound**2 - observed**2).clip(min=0) / (found.n_episodes / 5))
    axes = figure.add_subplot()
    ends = (
        min(predicted.min(), (observed - half).min()) - 1,
        max(predicted.max(), (observed + half).max()) + 1,
    )
    axes.plot(ends, ends, color=CLINICIANS, linestyle="--", label="equal")
    axes.errorbar(predicted, observed, half, fmt="o", color=POLICY, label="a fifth of episodes,\n95% at most")
    axes.set(xlabel="value fitted to the clinicians' first action", ylabel="mean return that followed")
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    axes.legend(loc="upper left")
    order = f"{spearmanr(predicted, observed).statistic:+.2f}" if len(rows) > 1 else "undefined"
    text = f"Order counts (rank correlation {order}), not level: after the first dose the value is of the policy, the "
    frame(figure, found, text + "return of the clinicians.")
    return True


def _draw_clinicians(axes: Axes, found: Evaluation) -> Result | None:
    """Draw the clinicians' observed return as a line with its interval as a band; return it."""
    policy = next((one for one in found.policies if one.role == "clinicians"), None)
    result = find_result(policy, OBSERVED, found.bound) if policy else None
    if policy is None or result is None:
        return None
    axes.axvline(result.value, color=CLINICIANS, linestyle="--", label="clinicians, observed, 95% interval")
    if result.lower is not None and result.upper is not None:
        axes.axvspan(result.lower, result.upper, color=CLINICIANS, alpha=0.12, linewidth=0)
    return result


def _estimators(policy: PolicyRecord) -> tuple[str, str]:
    """Names of the recommended estimator and of the one from another family."""
    recommended = (
        policy.difference_to_clinicians.estimator if policy.difference_to_clinicians else "fqe_cross_fitted"
    )
    return recommended, next((name for name in policy.differences if name != recommended), "wdr")


def _result(found: Interval, bound: float) -> Result | None:
    return make_result(found.value, found.lower, found.upper, bound)


def _shorten(policy: PolicyRecord) -> str:
    if policy.role == "learned":
        return "as it\nacts"
    return policy.softening.replace("clinicians x exp(Q / ", "Q/").replace(")", "").split(" of ")[0]
