"""What is published of the diagnostics: known groups of patients, shares in tens of them, nobody's extreme values."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from sepsis_cql.evaluation.report import record as shown
from sepsis_cql.evaluation.report.diagnostics import WEIGHT_EDGES
from sepsis_cql.publishing.guard.closing import Bounds
from sepsis_cql.publishing.guard.fields import Share, Tens
from sepsis_cql.publishing.guard.names import EstimatorName, PolicyName, one_of
from sepsis_cql.publishing.guard.wording import BANDED, SEVERITY, is_known_group, list_groups

Shares = Annotated[list[Share], Field(min_length=25, max_length=25)]
Characteristic = Annotated[str, one_of(frozenset([*BANDED, *list_groups()]))]


def _is_known(group: str) -> str:
    if not any(is_known_group(characteristic, group) for characteristic in (*BANDED, *list_groups())):
        raise ValueError("not a group that is published")
    return group


def _are_known(rows: list[Any]) -> list[Any]:
    if not all(is_known_group(getattr(row, "characteristic", SEVERITY), row.group) for row in rows):
        raise ValueError("a group that is not published")
    return rows


def _are_ours(edges: list[float]) -> list[float]:
    if edges != WEIGHT_EDGES.tolist():
        raise ValueError("not the edges that every evaluation has")
    return edges


Group = Annotated[str, AfterValidator(_is_known)]
OF_GROUP = {"characteristic": Characteristic, "group": Group, "n_episodes": Tens}
KNOWN = AfterValidator(_are_known)
DIAGNOSTICS: Bounds = {
    shown.GroupMean: {"group": Group, "value": Share, "n_patients": Tens},
    shown.DrugShare: {"predicted": Share, "observed": Share},
    shown.GroupDoses: {"group": Group, "n_patients": Tens},
    shown.SupportShare: {"threshold": Share, "share": Share},
    shown.WeightHistogram: {
        "log10_edges": Annotated[list[float], AfterValidator(_are_ours)],
        "shares": Annotated[list[Share], Field(max_length=20)],
        "zero_share": Share,
        "largest_shares": Annotated[list[Share], Field(max_length=0)],  # they are of single patients
    },
    shown.Subgroup: OF_GROUP,
    shown.SubgroupDifference: OF_GROUP | {"p_adjusted": Share | None},
    shown.SubgroupDifferences: {
        "policy": PolicyName,
        "recommended": EstimatorName,
        "independent": EstimatorName,
        "rows": Annotated[list[shown.SubgroupDifference], Field(max_length=80), KNOWN],
    },
    shown.DoseCell: {
        "difference": Annotated[int, Field(ge=-4, le=4)],
        "mortality": Share,
        "n_episodes": Tens,
    },
    shown.DoseDifference: dict.fromkeys(
        ("vasopressor", "fluid"), Annotated[list[shown.DoseCell], Field(max_length=9)]
    ),
    shown.Evaluator: {"sweeps": Annotated[int, Field(ge=0, lt=100_000)]},
    shown.Diagnostics: {
        "policy": Literal["package"],
        "clinician_actions": Shares,
        "policy_actions": Shares,
        "agreement": Share,
        "agreement_by_sofa": Annotated[list[shown.GroupMean], Field(max_length=12), KNOWN],
        "behavior_by_sofa": Annotated[list[shown.GroupDoses], Field(max_length=12), KNOWN],
        "unsupported_share": Annotated[list[shown.SupportShare], Field(max_length=8)],
        "subgroups": Annotated[list[shown.Subgroup], Field(max_length=80), KNOWN],
        "q_calibration": Annotated[list[shown.ValueCalibration], Field(max_length=5)],
    },
}
