"""The dataset card of a replay: what its rows are, where they come from and who may use them."""

from collections.abc import Iterable
from functools import cache

from sepsis_cql.common.strict import SHIPPED, Settings, read_yaml
from sepsis_cql.replay.records import Source
from sepsis_cql.replay.report.counts import BuildReport
from sepsis_cql.replay.rows.splits import SPLITS

CARD = "README.md"
SYNTHETIC = "synthetic"
COLUMNS = {
    "subject_id": "patient",
    "hadm_id": "hospital admission",
    "stay_id": "ICU stay, which is the episode",
    "step_index": "number of the step in its episode, from 0",
    "step_start": "when the step begins; the state is what was known then",
    "state": "clinical units, NaN where nothing is known",
    "action": "5 · vasopressor bin + fluid bin, 0 to 24",
    "reward_sparse": "at the end of the episode only",
    "reward_sofa_shaped": "with the change of SOFA in every step",
    "terminal": "whether the episode ends with the step",
    "next_state": "what was known when the next step began",
    "norepinephrine_equivalent": "dose given in the step, mcg/kg/min",
    "fluid_volume": "volume given in the step, mL",
    "sofa": "SOFA at the step",
    "is_ventilated": "whether ventilated at the step",
}


class Terms(Settings):
    """Licence, citation and home of a source of tables."""

    license: str
    citation: str
    homepage: str


@cache
def load_terms(source: str) -> Terms:
    """Return the terms of a source; what is not known is held to be credentialed."""
    terms = read_yaml(SHIPPED / "datasets.yaml")
    return Terms.model_validate(terms.get(source, terms["mimic-iv"]))


def version_of(source: Source) -> str:
    """Return the release of the tables as the three numbers `datasets` wants."""
    numbers = [part for part in (source.version or "").split(".") if part.isdecimal()]
    return ".".join([*numbers, "0", "0", "0"][:3])


def render_dataset_card(report: BuildReport, columns: Iterable[str], step_hours: int) -> str:
    """Render README.md of a replay directory whose rows have these columns."""
    terms, source = load_terms(report.source.name), report.source
    is_made_up = source.name == SYNTHETIC
    use = (
        "Every patient is simulated. Research only, not for patient care."
        if is_made_up
        else "Rows of patients: keep them where DATA_USE_NOTICE.txt says, and do not share them."
    )
    sizes = "\n".join(
        f"| {split} | {row.patients:,} | {row.episodes:,} | {row.transitions:,} |"
        for split, row in report.splits.items()
    )
    files = "\n".join(f"  - {{split: {split}, path: {split}.parquet}}" for split in SPLITS)
    meanings = "\n".join(f"| `{name}` | {COLUMNS.get(name, '')} |" for name in columns)
    return f"""\
---
license: {"apache-2.0" if is_made_up else "other"}
pretty_name: sepsis replay
task_categories: [reinforcement-learning]
tags: [sepsis, offline-reinforcement-learning]
configs:
- config_name: default
  data_files:
{files}
---

# Sepsis replay of {source.name} {source.version}

Septic ICU stays in {step_hours}-hour steps: state, dose given, reward, next state. {use}

License: {terms.license}. Home of the tables: {terms.homepage}. Fingerprint: `{report.fingerprint}`.

| split | patients | episodes | transitions |
| --- | ---: | ---: | ---: |
{sizes}

| column | holds |
| --- | --- |
{meanings}

`provenance.json` has the settings, `statistics.json` normalizer and dose bins of the training split.

Cite: {terms.citation}
"""
