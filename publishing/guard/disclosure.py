"""An evaluation reduced to what may be published of it; reducing twice changes nothing, and that is the check."""

import re
from typing import Any

from sepsis_cql.common.errors import PublishingError
from sepsis_cql.common.privacy import (
    SMALL,
    SMALLEST_CELL,
    Count,
    floor_size,
    hides_outcomes,
    round_count,
    round_share,
)
from sepsis_cql.evaluation.estimators.table import ESTIMATORS
from sepsis_cql.evaluation.record import Evaluation, PolicyRecord, Verdict, find_judged
from sepsis_cql.evaluation.verdict import (
    ATTAINABLE,
    BARS,
    HIDDEN,
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
from sepsis_cql.publishing.guard.wording import is_known_group, say_verdict

WEIGHTED = frozenset(name for name, row in ESTIMATORS.items() if row.rests_on_weights)
ENDS = {"value": None, "lower": None, "upper": None}
# Gates whose number is one patient's where the sample is small.
OF_FEW = frozenset([MEAN_WEIGHT, ATTAINABLE, WORST, HIDDEN])
WIS = ("wis_mean", "wis_lower", "wis_upper", "wis_point_clipped50")


def reduce_evaluation(found: Evaluation) -> PublishedEvaluation:
    """Reduce an evaluation to what may be published.

    Numbers of patients, episodes and decisions are rounded to tens, shares likewise, effective sample sizes down to
    tens; what rests on fewer than ten episodes, and what is a single patient's, is left out; sentences are made anew
    from the numbers that remain.

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
    has_few = _has_few_outcomes(found)
    policies = [_reduce_policy(policy, found, has_few=has_few) for policy in found.policies]
    values |= {
        "policy": values["policy"] | {"name": POLICY},
        "n_episodes": episodes,
        "n_transitions": round_count(found.n_transitions),
        "n_patients": round_count(found.n_patients),
        "published": _reduce_metrics(values["published"], episodes, has_few=has_few),
        "policies": policies,
        "behavior": _reduce_behavior(values["behavior"]),
        "diagnostics": _reduce_diagnostics(values["diagnostics"], found),
        "verdict": _verdict(policies, found) or values["verdict"],
        "sensitivity": [_reduce_variation(row, has_few=has_few) for row in values.get("sensitivity", [])],
    }
    return PublishedEvaluation.model_validate(values)


def _has_few_outcomes(found: Evaluation) -> bool:
    """Whether fewer than ten of the scored episodes may have ended in death, or in survival.

    Every value of such a split gives the clinicians' mean away, as a difference from it or as the value of their clone.
    """
    observed = (policy.estimates.get("observed") for policy in found.policies)
    mean = next((estimate.value for estimate in observed if estimate is not None), None)
    return hides_outcomes(mean, found.n_episodes, found.bound)


def _reduce_policy(policy: PolicyRecord, found: Evaluation, *, has_few: bool) -> dict[str, Any]:
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
    values["tails"] = [_reduce_tail(tail, size, found.bound) for tail in values.get("tails", [])]
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


def _reduce_tail(tail: dict[str, Any], size: float, bound: float) -> dict[str, Any]:
    """Without means of few episodes, and of shares in which fewer than ten died or survived."""
    is_hidden = hides_outcomes(tail["value"], int(tail["share"] * size), bound)
    return tail | (ENDS if is_hidden else {})


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


def _reduce_diagnostics(values: dict[str, Any] | None, found: Evaluation) -> dict[str, Any] | None:
    steps, episodes = found.n_transitions, found.n_episodes
    if values is None or isinstance(episodes, str) or isinstance(steps, str):
        return None
    weights = values["weights"]
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
            _reduce_subgroup(row, found.bound) for row in values["subgroups"] if _is_published(row)
        ],
        "q_calibration": [
            row
            for row in values["q_calibration"]
            if not hides_outcomes(row["observed"], round_count(episodes) // 5, found.bound)  # type: ignore[operator]
        ],
        "dose_difference": {
            drug: [_reduce_cell(cell) for cell in cells] for drug, cells in values["dose_difference"].items()
        },
        "differences": _reduce_subgroup_differences(values.get("differences"), found),
    }


def _reduce_subgroup_differences(values: dict[str, Any] | None, found: Evaluation) -> dict[str, Any] | None:
    """Differences by subgroup, without those in groups whose clinicians' return is hidden."""
    if values is None or found.diagnostics is None:
        return None
    clinicians = {
        (row.characteristic, row.group): row.clinicians.value for row in found.diagnostics.subgroups
    }
    rows = []
    for row in filter(_is_published, values["rows"]):
        mean = clinicians.get((row["characteristic"], row["group"]))
        is_hidden = hides_outcomes(mean, row["n_episodes"], found.bound)
        hidden = {"difference": ENDS, "independent": ENDS} if is_hidden else {}
        rows.append(
            row | {"n_episodes": round_count(row["n_episodes"]), "ess": floor_size(row["ess"])} | hidden
        )
    return values | {"policy": _rename(values["policy"], found.policy.name), "rows": rows}


def _is_published(row: dict[str, Any]) -> bool:
    return is_known_group(row["characteristic"], row["group"])


def _reduce_subgroup(row: dict[str, Any], bound: float) -> dict[str, Any]:
    hidden = hides_outcomes(row["clinicians"]["value"], row["n_episodes"], bound)
    clinicians = ENDS if hidden else row["clinicians"]
    return row | {"n_episodes": round_count(row["n_episodes"]), "clinicians": clinicians}


def _reduce_cell(cell: dict[str, Any]) -> dict[str, Any]:
    mortality = round_share(cell["mortality"], cell["n_episodes"])
    return cell | {"mortality": mortality, "n_episodes": round_count(cell["n_episodes"])}
