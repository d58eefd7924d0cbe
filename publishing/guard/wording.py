"""The sentences and names that may be published: made from numbers by templates, or listed in publishing.yaml."""

import math
import re
from collections.abc import Iterable
from functools import cache
from itertools import pairwise

from sepsis_cql.common.privacy import SMALLEST_CELL
from sepsis_cql.common.strict import Settings, load_shipped
from sepsis_cql.evaluation.record import Gate, Label, PolicyRecord, Verdict
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.verdict import (
    ONLY_PUBLISHED,
    SIZE,
    UNIDENTIFIED,
    explain_gate,
    is_identified,
    say_limit,
)

SEVERITY = "SOFA at first step"
BANDED = frozenset(["age", SEVERITY])
MODAL = re.compile(r"always the modal action \((1?[0-9]|2[0-4])\)")
SAME_EVERYWHERE = ("clone of the clinicians", "no treatment", "random")
FEW_OUTCOMES = "fewer than ten of the scored patients may have died, or survived, so that no value is shown"


class AllowedFile(Settings):
    """A kind of file: the whole path as a regular expression, its largest size, and why it may be published."""

    path: str
    largest_kb: int
    reason: str


class PublishingSettings(Settings):
    """The whole of `configs/publishing.yaml`."""

    files: list[AllowedFile]
    losses: list[str]
    groups: dict[str, list[str]]


@cache
def publishing_settings() -> PublishingSettings:
    """Return what may be published, as the installed package says."""
    return load_shipped(PublishingSettings, "publishing.yaml")


def list_groups() -> list[str]:
    """Return the characteristics whose groups have listed names."""
    return list(publishing_settings().groups)


def is_known_group(characteristic: str, group: str) -> bool:
    """Whether a group of patients has a name that is published; bands are the shipped ones.

    Two exports with other bands would give the few patients between their edges away.
    """
    return group in bands().get(characteristic, publishing_settings().groups.get(characteristic, ()))


@cache
def bands() -> dict[str, list[str]]:
    """Return the names of the shipped bands of age and severity."""
    rules = load_shipped(EvaluationSettings, "evaluation.yaml").diagnostics
    return {
        characteristic: [f"[{low:.1f}, {high:.1f})" for low, high in pairwise([*edges, math.inf])]
        for characteristic, edges in (("age", rules.age_strata), (SEVERITY, rules.sofa_strata))
    }


def say_verdict(
    policy: PolicyRecord | None, label: Label, as_good: Iterable[str], *, barred: str | None = None
) -> Verdict | None:
    """Return the verdict in the words of its template; None where the numbers do not lead to one.

    Args:
        policy: with its gates and difference; None where no policy was estimated.
        label: of the verdict.
        as_good: baselines that do no worse.
        barred: why the scored episodes cannot endorse it; None where they can.
    """
    if policy is None:
        return Verdict(label=UNIDENTIFIED, reasons=[ONLY_PUBLISHED])
    failed = [gate for gate in policy.gates if not gate.passed]
    if not is_identified(policy.gates):
        return Verdict(
            label=UNIDENTIFIED, reasons=[_explain(gate) for gate in failed if not gate.is_for_endorsement]
        )
    difference = policy.difference_to_clinicians
    if difference is None or None in (difference.value, difference.lower, difference.upper):
        return Verdict(label=UNIDENTIFIED, reasons=[FEW_OUTCOMES])
    interval = f"{difference.value:+.2f} [{difference.lower:+.2f}, {difference.upper:+.2f}]"
    reasons = [f"difference to clinicians by {difference.estimator} {interval}"]
    names = list(as_good)
    if any(not (MODAL.fullmatch(name) or name in SAME_EVERYWHERE) for name in names):
        return None
    if names:
        reasons.append(f"no better than {', '.join(names)}")
    if label == "not better than clinicians":
        return Verdict(label=label, reasons=reasons)
    if names:
        return None
    if label == UNIDENTIFIED:
        why = [_explain(gate) for gate in failed] + ([barred] if barred else [])
        return Verdict(label=label, reasons=[*why, *reasons]) if why else None
    if failed or barred:
        return None
    reasons = [f"{reasons[0]}; every gate holds", say_limit(policy, policy.gates)]
    return Verdict(label=label, reasons=reasons)


def _explain(gate: Gate) -> str:
    is_few = gate.name == SIZE and gate.value is not None and gate.value < SMALLEST_CELL
    return explain_gate(gate, "fewer than 10" if is_few else None, undefined="not shown")
