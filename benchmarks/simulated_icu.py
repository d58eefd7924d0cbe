"""How near the simulated ICU is to the open MIMIC-IV demo, and the true values of plain policies in it.

    python benchmarks/simulated_icu.py --mimic mimic-iv-demo --out DIR

builds the demo and 2,000 simulated patients into DIR and prints the two tables of docs/synthetic_icu.md as Markdown.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sepsis_cql.common.strict import load_shipped
from sepsis_cql.replay.build import build_replay
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.replay.rows.splits import SPLITS
from sepsis_cql.replay.settings import Features, load_build_settings
from sepsis_cql.synthetic.rendering.render import synthesize
from sepsis_cql.synthetic.settings import load_synthetic_settings
from sepsis_cql.synthetic.truth import open_truth

PATIENTS, SEED, ROLLOUTS = 2000, 1, 20_000
FEATURES = {
    "map": "Mean pressure, lowest of 4 h, mmHg",
    "heart_rate": "Heart rate, bpm",
    "resp_rate": "Respiratory rate, /min",
    "temperature": "Temperature, degC",
    "lactate": "Lactate, mmol/L",
    "creatinine": "Creatinine, mg/dL",
    "bilirubin_total": "Bilirubin, mg/dL",
    "platelets": "Platelets, K/uL",
    "pf_ratio": "PaO2/FiO2, mmHg",
    "gcs_total": "Coma score",
    "urine_output_4h": "Urine of 4 h, mL",
}
OFTEN_MISSING = ("lactate", "creatinine", "bilirubin_total", "pf_ratio", "peep")
DOSES = {"norepinephrine_equivalent": "Vasopressor, mcg/kg/min", "fluid_volume": "Fluid of 4 h, mL"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mimic", type=Path, required=True, help="Folder of the open demo.")
    parser.add_argument("--out", type=Path, required=True, help="New directory for tables and replays.")
    arguments = parser.parse_args()
    synthesize(arguments.out / "tables", PATIENTS, SEED, load_synthetic_settings())
    columns = []
    for name, tables in (("demo", arguments.mimic), ("simulated", arguments.out / "tables")):
        build_replay(tables, arguments.out / name, load_build_settings())
        columns.append(describe(arguments.out / name))
    print("| Quantity | Demo | Simulated |\n|---|---|---|")
    for quantity in columns[0]:
        print(f"| {quantity} | {columns[0][quantity]} | {columns[1][quantity]} |")
    print("\n| Policy | Value | Death by day 90 |\n|---|---|---|")
    for name, value, mortality in true_values(arguments.out / "simulated"):
        print(f"| {name} | {value:.2f} | {mortality:.3f} |")


def describe(replay: Path) -> dict[str, str]:
    """Return the quantities of one replay as text: median (5th to 95th percentile), shares and quartiles."""
    report = json.loads((replay / "build_report.json").read_text(encoding="utf-8"))
    cohort, features = report["cohort"], report["features"]
    steps = pd.concat([pd.read_parquet(replay / f"{split}.parquet", columns=list(DOSES)) for split in SPLITS])
    found = {
        "Septic share of ICU stays": f"{cohort['septic_stays'] / cohort['stays']:.2f}",
        "Steps an episode": f"{cohort['transitions'] / cohort['episodes']:.1f}",
        "90-day mortality": f"{cohort['mortality']:.2f}",
    }
    for name, label in FEATURES.items():
        facts = features[name]
        found[label] = f"{facts['median']:.3g} ({facts['low']:.3g} to {facts['high']:.3g})"
    found["Steps without a new " + ", ".join(OFTEN_MISSING)] = ", ".join(
        f"{features[name]['not_measured']:.2f}" for name in OFTEN_MISSING
    )
    for column, label in DOSES.items():
        doses = steps[column].to_numpy()
        quartiles = np.percentile(doses[doses > 0], [25, 50, 75])
        found[f"{label}: share of steps, quartiles"] = (
            f"{(doses > 0).mean():.2f}; {', '.join(f'{dose:.3g}' for dose in quartiles)}"
        )
    return found


class PressureAndVolume:
    """Vasopressor by the last mean pressure, fluid early and only while pressure or lactate ask for it."""

    def __init__(self, names: list[str]) -> None:
        self.column = {name: names.index(name) for name in ("map", "lactate", "cum_iv_fluid_ml")}

    def probabilities(self, states: np.ndarray) -> np.ndarray:
        """Return (n, 25) probabilities for (n, 62) states."""
        pressure, lactate, volume = (
            np.nan_to_num(states[:, column], nan=normal)
            for column, normal in zip(self.column.values(), (80, 1.5, 0), strict=True)
        )
        vasopressor = np.select([pressure >= level for level in (66, 60, 54, 48)], range(4), 4)
        needed = (volume < 4500) & ((pressure < 68) | (lactate > 2.2))
        fluid = np.where(needed, np.where(volume < 2500, 4, 3), 0)
        return np.eye(25)[5 * vasopressor + fluid]


class Constant:
    """The same row of action probabilities in every state."""

    def __init__(self, row: np.ndarray) -> None:
        self.row = row

    def probabilities(self, states: np.ndarray) -> np.ndarray:
        """Return (n, 25) probabilities for (n, 62) states."""
        return np.tile(self.row, (len(states), 1))


def true_values(replay: Path) -> list[tuple[str, float, float]]:
    """Return name, value and mortality of plain policies, best first."""
    truth = open_truth(open_replay(replay))
    assert truth is not None

    def value(policy: Any, rollouts: int = ROLLOUTS) -> Any:
        return truth.value(policy, rollouts, 5, gamma=0.99)

    constant = [Constant(row) for row in np.eye(25)]
    best = max(range(25), key=lambda action: value(constant[action], 1000).value)
    policies = {
        "Rule of pressure and volume": PressureAndVolume(
            list(load_shipped(Features, "features.yaml").state_names)
        ),
        "Clinicians": truth.behavior,
        f"Best constant action ({best}: vasopressor {best // 5}, fluid {best % 5})": constant[best],
        "No treatment (0)": constant[0],
        "All actions equally": Constant(np.full(25, 1 / 25)),
        "Most of both (24)": constant[24],
    }
    found = [
        (name, result.value, result.mortality)
        for name, result in ((n, value(p)) for n, p in policies.items())
    ]
    return sorted(found, key=lambda row: -row[1])


if __name__ == "__main__":
    main()
