"""The aggregate results a card is rendered from: a run's own records, reduced to what may be published."""

import math
from pathlib import Path
from typing import Any

from sepsis_cql.common.privacy import hide_count, pool_small_rows, suppress_counts, suppress_share
from sepsis_cql.common.storage import read_json, write_json
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.record import RECORD as EVALUATION
from sepsis_cql.evaluation.record import load_evaluation
from sepsis_cql.replay.settings import Features
from sepsis_cql.training.outputs import RECORD as TRAINING

BUILD = "build_report.json"
PROVENANCE = "provenance.json"
FOLDER = "model/evidence"
FILES = (BUILD, TRAINING, EVALUATION)
TRAINING_FIELDS = (
    "settings", "data", "runtime", "epochs", "global_step", "losses", "weights_sha256", "git_commit",
    "versions",
)  # fmt: skip
LARGE = 1e6
COUNTS_OF_PATIENTS = ("n_episodes", "wis_nonzero_episodes")


def write_evidence(replay: Path, training: Path, evaluation: Path, out: Path) -> None:
    """Write the three evidence files, and the evaluation in the published fields, into `out`.

    Args:
        replay: directory written by `build`.
        training: directory written by `train`.
        evaluation: directory written by `evaluate`.
        out: directory that receives them.
    """
    report = read_json(replay / BUILD, expected="the report `sepsis-cql build` writes")
    provenance = read_json(replay / PROVENANCE, expected="the provenance `sepsis-cql build` writes")
    record = read_json(training / TRAINING, expected="the record `sepsis-cql train` writes")
    write_json(out / BUILD, reduce_build_report(report, provenance))
    write_json(out / TRAINING, {name: record[name] for name in TRAINING_FIELDS if name in record})
    write_json(out / EVALUATION, round_large(load_evaluation(evaluation).model_dump()))
    for file in sorted(evaluation.glob("*_evaluation.json")):
        published = read_json(file, expected="an evaluation in the published fields")
        write_json(out / file.name, hide_small_counts(published))


def reduce_build_report(report: dict[str, Any], provenance: dict[str, Any]) -> dict[str, Any]:
    """Counts of a build with small cells hidden, and what the build was made from."""
    cohort, splits = report["cohort"], report["splits"]
    first, *criteria = report["attrition"]
    rows = [(row["description"], row["stays_removed"]) for row in criteria]
    synthetic = provenance.get("synthetic") or {}
    return {
        "source": report["source"],
        "synthetic": {name: synthetic[name] for name in ("patients", "seed", "version") if name in synthetic}
        or None,
        "fingerprint": report["fingerprint"],
        "alignment": report["alignment"],
        "settings": provenance["settings"],
        "cohort": {
            "stays": cohort["stays"],
            "septic_stays": hide_count(cohort["septic_stays"]),
            "episodes": hide_count(cohort["episodes"]),
            "transitions": cohort["transitions"],
            "deaths": suppress_share(cohort["deaths"], cohort["episodes"]),
        },
        "attrition": [row.model_dump() for row in pool_small_rows(rows, first["stays_remaining"])],
        "splits": suppress_counts({name: split["patients"] for name, split in splits.items()}),
        "action_grid": {
            **{name: report["action_grid"][name] for name in ("vasopressor_unit", "fluid_unit")},
            **{name: report["action_grid"][name] for name in ("vasopressor_edges", "fluid_edges")},
            "counts": [
                [hide_count(count) for count in row] for row in report["action_grid"]["counts"]["train"]
            ],
        },
        "warnings": len(report["warnings"]),
    }


def round_large(value: Any) -> Any:
    """The same value with every float beyond a million as a power of ten.

    Importance weights can explode to any size, where their digits mean nothing but may look like an identifier.
    """
    if isinstance(value, dict):
        return {name: round_large(item) for name, item in value.items()}
    if isinstance(value, list):
        return [round_large(item) for item in value]
    if isinstance(value, float) and abs(value) >= LARGE:
        return math.copysign(10.0 ** round(math.log10(abs(value))), value)
    return value


def hide_small_counts(published: dict[str, Any]) -> dict[str, Any]:
    """The published fields with counts of fewer than ten episodes as "<10"."""
    return {
        name: hide_count(value) if name in COUNTS_OF_PATIENTS and isinstance(value, int) else value
        for name, value in published.items()
    }


def feature_rows() -> list[tuple[str, str]]:
    """Name and unit of each clinical feature, for the card."""
    features = load_shipped(Features, "features.yaml").features
    return [(name, feature.unit) for name, feature in features.items()]
