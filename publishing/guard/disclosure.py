"""An evaluation reduced to what may be published of it; reducing twice changes nothing, and that is the check."""

import math
import re
from typing import Any

from sepsis_cql.common.errors import PublishingError
from sepsis_cql.common.privacy import (
    SMALL,
    SMALLEST_CELL,
    Count,
    FinalReward,
    floor_size,
    round_count,
    round_share,
    show_with_enough_hidden,
)
from sepsis_cql.evaluation.estimators.table import ESTIMATORS
from sepsis_cql.evaluation.record import Evaluation, PolicyRecord, Verdict, find_judged
from sepsis_cql.evaluation.verdict import (
    ANOTHER_DEATH,
    ATTAINABLE,
    BARS,
    HIDDEN,
    LEAST_HIDDEN,
    LOOKS,
    MEAN_WEIGHT,
    SIZE,
    SUPPORT,
    UNDONE_BY,
    WORST,
    YARDSTICK,
    say_yardstick,
)
from sepsis_cql.publishing.guard.evaluation import A_COVARIATE, ABOVE, COVARIATES, PublishedEvaluation
from sepsis_cql.publishing.guard.fields import round_numbers
from sepsis_cql.publishing.guard.names import POLICY
from sepsis_cql.publishing.guard.wording import SEVERITY, is_known_group, say_verdict
from sepsis_cql.replay.settings import ReplaySettings

WEIGHTED = frozenset(name for name, row in ESTIMATORS.items() if row.rests_on_weights)
ENDS = {"value": None, "lower": None, "upper": None}
# Gates whose number is one patient's where the sample is small.
OF_FEW = frozenset([MEAN_WEIGHT, ATTAINABLE, ANOTHER_DEATH, LOOKS, WORST, HIDDEN, LEAST_HIDDEN])
LOCAL_SUPPORT = "local support: "  # how the name of this gate begins
WIS = ("wis_mean", "wis_lower", "wis_upper", "wis_point_clipped50")


def reduce_evaluation(found: Evaluation, settings: ReplaySettings) -> PublishedEvaluation:
    """Reduce an evaluation to what may be published.

    Numbers of patients, episodes and decisions are rounded to tens, shares likewise, effective sample sizes down to
    tens; what rests on fewer than ten episodes, and what is a single patient's, is left out; sentences are made anew
    from the numbers that remain.

    Args:
        found: the evaluation, with exact numbers or reduced already.
        settings: of the replay: the final reward, and how many steps discount it.

    Raises:
        PublishingError: the evaluation is not of a package.
    """
    if found.policy.kind != "package":
        raise PublishingError(
            f"the evaluation is of a {found.policy.kind}, expected one of the package that is exported. "
            "Evaluate `training/package`."
        )
    episodes = round_count(found.n_episodes)
    values = round_numbers(found.model_dump(mode="json"))
    reward = final_reward(settings, found.gamma)
    has_few = reward.hides(_observed(found), found.n_episodes)
    policies = [_reduce_policy(policy, found, reward, has_few=has_few) for policy in found.policies]
    values |= {
        "policy": values["policy"] | {"name": POLICY},
        "n_episodes": episodes,
        "n_transitions": round_count(found.n_transitions),
        "n_patients": round_count(found.n_patients),
        "published": _reduce_metrics(values["published"], episodes, has_few=has_few),
        "policies": policies,
        "behavior": _reduce_behavior(values["behavior"]),
        "diagnostics": _reduce_diagnostics(values["diagnostics"], found, reward, has_few=has_few),
        "verdict": _verdict(policies, found) or values["verdict"],
        "sensitivity": [_reduce_variation(row, has_few=has_few) for row in values.get("sensitivity", [])],
    }
    return PublishedEvaluation.model_validate(values)


def final_reward(settings: ReplaySettings, gamma: float) -> FinalReward:
    """Return the final reward of a replay, and what a discount leaves of it over the longest stay."""
    steps = (settings.hours_before + settings.hours_after) // settings.step_hours
    size = settings.terminal_reward
    return FinalReward(size, size * gamma ** (steps - 1))


def _observed(found: Evaluation) -> float | None:
    """The clinicians' mean return, of which every value of their clone, and every difference to them, tells."""
    observed = (policy.estimates.get("observed") for policy in found.policies)
    return next((estimate.value for estimate in observed if estimate is not None), None)


def _reduce_policy(
    policy: PolicyRecord, found: Evaluation, reward: FinalReward, *, has_few: bool
) -> dict[str, Any]:
    episodes = round_count(found.n_episodes)
    values = round_numbers(policy.model_dump(mode="json"))
    values["name"] = _rename(policy.name, found.policy.name)
    size = 0.0 if episodes == SMALL else floor_size(policy.weights.ess)
    is_small = size < SMALLEST_CELL
    for name, estimate in values["estimates"].items():
        hidden = has_few or (is_small and name in WEIGHTED)
        values["estimates"][name] = estimate | {"truncated_at": None} | (ENDS if hidden else {})
    values["weights"] = {
        "ess": size,
        "ess_share": round_share(size / episodes, episodes)
        if isinstance(episodes, int) and episodes
        else None,
        "mean_weight": None if is_small else values["weights"]["mean_weight"],
        "largest_weight_share": None,
        "zero_weight_share": round_share(policy.weights.zero_weight_share, episodes),
    }
    if has_few and values["difference_to_clinicians"]:
        values["difference_to_clinicians"] |= ENDS
    values["differences"] = _hide_differences(values["differences"], size, has_few=has_few)
    if is_small or has_few:
        values |= dict.fromkeys(("break_even_gamma", "break_even_gamma_by_decision", "certain_gamma"))
        values["certain"] = None
    values["tails"] = _reduce_tails(values.get("tails", []), 0.0 if has_few else size, reward)
    values["gates"] = [_reduce_gate(gate, size, found, has_few=has_few) for gate in values["gates"]]
    values["verdict"] = _reword(values, policy, found.policy.name)
    return values


def _reduce_variation(row: dict[str, Any], *, has_few: bool) -> dict[str, Any]:
    """Without differences that rest on few episodes or outcomes."""
    size = 0.0 if has_few else floor_size(row["ess"])
    return row | {"ess": size, "differences": _hide_differences(row["differences"], size, has_few=has_few)}


def _hide_differences(values: dict[str, Any], size: float, *, has_few: bool) -> dict[str, Any]:
    return {
        name: difference | (ENDS if has_few or (size < SMALLEST_CELL and name in WEIGHTED) else {})
        for name, difference in values.items()
    }


def _reduce_tails(tails: list[dict[str, Any]], size: float, reward: FinalReward) -> list[dict[str, Any]]:
    """Without means of few episodes, of shares in which few died or survived, and of shares that few lie between."""
    below, shown = 0.0, []
    for tail in sorted(tails, key=lambda tail: tail["share"]):
        upto = tail["share"] * size
        is_apart = min(upto - below, size - upto) >= SMALLEST_CELL
        if is_apart and not reward.hides(tail["value"], int(upto)):
            below = upto
            shown.append(tail["share"])
    return [tail if tail["share"] in shown else tail | ENDS for tail in tails]


def _verdict(policies: list[dict[str, Any]], found: Evaluation) -> dict[str, Any] | None:
    """Of the version that is judged, in words made from what is published."""
    judged = find_judged(found.policies, found.frozen)
    return None if judged is None else policies[found.policies.index(judged)]["verdict"]


def _reduce_gate(gate: dict[str, Any], size: float, found: Evaluation, *, has_few: bool) -> dict[str, Any]:
    name, is_small = gate["name"], size < SMALLEST_CELL
    if name == WORST:
        gate = gate | {"threshold": ABOVE}
    if name == HIDDEN and (measured := YARDSTICK.fullmatch(gate["threshold"])):
        covariate = _cover(measured[2])
        gate = gate | {
            "threshold": say_yardstick(measured[1], covariate),
            "meaning": UNDONE_BY.format(covariate),
        }
    if name == SUPPORT:
        return gate | {"value": round_share(gate["value"], found.n_transitions)}
    if name.startswith(LOCAL_SUPPORT) and gate["value"] is not None:
        share = round_share(abs(gate["value"]), found.n_transitions)
        return gate | {"value": share and math.copysign(share, gate["value"])}
    if name == SIZE:
        return gate | {"value": size}
    if is_small and (name in OF_FEW or set(re.split(r"[ ,]", name)) & WEIGHTED):
        return gate | {"value": None}
    if has_few:
        return gate | {"value": None}
    return gate


def _reword(values: dict[str, Any], policy: PolicyRecord, name: str) -> dict[str, Any] | None:
    """The verdict in words made from the published numbers."""
    if policy.verdict is None:
        return None
    last = policy.verdict.reasons[-1] if policy.verdict.reasons else ""
    as_good = last.removeprefix("no better than ").split(", ") if last.startswith("no better than ") else []
    reworded = PolicyRecord.model_validate(values | {"verdict": None})
    barred = next((bar for bar in BARS if bar in policy.verdict.reasons), None)
    verdict = say_verdict(reworded, policy.verdict.label, as_good, barred=barred)
    return (verdict or Verdict(label=policy.verdict.label, reasons=[])).model_dump()


def _rename(name: str, policy: str) -> str:
    """The name without that of the user's directory."""
    return POLICY + name.removeprefix(policy) if name == policy or name.startswith(f"{policy}, ") else name


def _reduce_metrics(
    values: dict[str, Any] | None, episodes: Count, *, has_few: bool
) -> dict[str, Any] | None:
    if values is None:
        return None
    size, clipped = floor_size(values["ess"]), floor_size(values["ess_point_clipped50"])
    nonzero = round_count(values["wis_nonzero_episodes"])
    is_small = has_few or SMALL in (episodes, nonzero) or min(size, clipped) < SMALLEST_CELL
    return values | {
        **(dict.fromkeys(WIS) if is_small else {}),
        "ess": size,
        "ess_point_clipped50": clipped,
        "n_episodes": episodes,
        "wis_nonzero_episodes": nonzero,
    }


def _reduce_behavior(values: dict[str, Any] | None) -> dict[str, Any] | None:
    if values is None:
        return None
    cells = [
        cell | {"n": round_count(cell["n"]), "observed": round_share(cell["observed"], cell["n"])}
        for cell in values["reliability"]
        if cell["n"] >= SMALLEST_CELL
    ]
    covariates = [one | {"name": _cover(one["name"])} for one in values.get("covariates", [])]
    return values | {"reliability": cells, "covariates": covariates}


def _cover(covariate: str) -> str:
    """The name of an input of the study; what a user added is not named."""
    return covariate if covariate in COVARIATES else A_COVARIATE


def _reduce_diagnostics(
    values: dict[str, Any] | None, found: Evaluation, reward: FinalReward, *, has_few: bool
) -> dict[str, Any] | None:
    steps, episodes = found.n_transitions, found.n_episodes
    if values is None or isinstance(episodes, str) or isinstance(steps, str):
        return None
    weights = values["weights"]
    groups = set() if has_few else _shown_groups(found, reward)
    fifths = [] if has_few else sorted(_shown_fifths(found, reward))
    return values | {
        "policy": POLICY,
        **{
            name: [round_share(share, steps) for share in values[name]]
            for name in ("clinician_actions", "policy_actions")
        },
        "agreement": round_share(values["agreement"], steps),
        "agreement_by_sofa": [
            row
            | {
                "n_patients": round_count(row["n_patients"]),
                "value": round_share(row["value"], row["n_patients"]),
            }
            for row in values["agreement_by_sofa"]
            if is_known_group(SEVERITY, row["group"])
        ],
        "behavior_by_sofa": [
            row
            | {"n_patients": round_count(row["n_patients"])}
            | {
                drug: {name: round_share(share, row["n_patients"]) for name, share in row[drug].items()}
                for drug in ("vasopressor", "fluid")
            }
            for row in values.get("behavior_by_sofa", [])
            if is_known_group(SEVERITY, row["group"])
        ],
        "unsupported_share": [
            row | {"share": round_share(row["share"], steps)} for row in values["unsupported_share"]
        ],
        "weights": weights
        | {
            "shares": [round_share(share, episodes) for share in weights["shares"]],
            "zero_share": round_share(weights["zero_share"], episodes),
            "largest_shares": [],
        },
        "subgroups": [
            _reduce_subgroup(row, groups) | ({"policy_fqe": ENDS} if has_few else {})
            for row in filter(_is_published, values["subgroups"])
        ],
        "q_calibration": [values["q_calibration"][fifth] for fifth in fifths],
        "evaluator": None if has_few else values["evaluator"],
        "dose_difference": {
            drug: [_reduce_cell(cell) for cell in cells] for drug, cells in values["dose_difference"].items()
        },
        "differences": _reduce_subgroup_differences(values.get("differences"), groups, found),
    }


def _shown_groups(found: Evaluation, reward: FinalReward) -> set[tuple[str, str]]:
    """Characteristic and group of those whose clinicians' mean return is shown."""
    assert found.diagnostics is not None
    rows = [
        (row.characteristic, row.group, row.n_episodes, row.clinicians.value)
        for row in found.diagnostics.subgroups
        if is_known_group(row.characteristic, row.group)
        and not reward.hides(row.clinicians.value, row.n_episodes)
    ]
    shown = set()
    for characteristic in {row[0] for row in rows}:
        means = {row[1]: (row[2], row[3]) for row in rows if row[0] == characteristic}
        shown |= {(characteristic, group) for group in _show(means, found, reward)}
    return shown


def _shown_fifths(found: Evaluation, reward: FinalReward) -> set[int]:
    """Which of the fifths of the episodes, by the evaluator's value, are shown."""
    assert found.diagnostics is not None and isinstance(found.n_episodes, int)
    size = found.n_episodes // 5
    rows = enumerate(found.diagnostics.q_calibration)
    means = {index: (size, row.observed) for index, row in rows if not reward.hides(row.observed, size)}
    return _show(means, found, reward)


def _show(means: dict[Any, Any], found: Evaluation, reward: FinalReward) -> set[Any]:
    """Which means are shown beside that of all episodes; of numbers that are rounded already it is decided."""
    if isinstance(found, PublishedEvaluation):
        return set(means)
    whole = found.n_episodes, _observed(found)
    return show_with_enough_hidden(means, whole, reward.hides)  # type: ignore[arg-type]


def _reduce_subgroup_differences(
    values: dict[str, Any] | None, shown: set[tuple[str, str]], found: Evaluation
) -> dict[str, Any] | None:
    """Differences by subgroup, without those in groups whose clinicians' return is hidden."""
    if values is None:
        return None
    rows = []
    for row in filter(_is_published, values["rows"]):
        is_shown = (row["characteristic"], row["group"]) in shown
        hidden = {} if is_shown else {"difference": ENDS, "independent": ENDS}
        rows.append(
            row | {"n_episodes": round_count(row["n_episodes"]), "ess": floor_size(row["ess"])} | hidden
        )
    return values | {"policy": _rename(values["policy"], found.policy.name), "rows": rows}


def _is_published(row: dict[str, Any]) -> bool:
    return is_known_group(row["characteristic"], row["group"])


def _reduce_subgroup(row: dict[str, Any], shown: set[tuple[str, str]]) -> dict[str, Any]:
    is_shown = (row["characteristic"], row["group"]) in shown
    clinicians = row["clinicians"] if is_shown else ENDS
    return row | {"n_episodes": round_count(row["n_episodes"]), "clinicians": clinicians}


def _reduce_cell(cell: dict[str, Any]) -> dict[str, Any]:
    mortality = round_share(cell["mortality"], cell["n_episodes"])
    return cell | {"mortality": mortality, "n_episodes": round_count(cell["n_episodes"])}
