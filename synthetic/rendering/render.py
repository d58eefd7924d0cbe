"""A simulated ICU written as MIMIC-IV tables: the only module here that writes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sepsis_cql.common.errors import SettingsError
from sepsis_cql.common.storage import new_directory, sha256_json, write_json
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.replay.mimic.sources.folder import SYNTHETIC_MARK
from sepsis_cql.replay.records import Simulation
from sepsis_cql.synthetic.rendering import hospital
from sepsis_cql.synthetic.rendering.bedside import Bedside
from sepsis_cql.synthetic.rendering.laboratory import Laboratory
from sepsis_cql.synthetic.rendering.roster import COHORT, Roster, count_stays, make_roster
from sepsis_cql.synthetic.rendering.tables import TableFormats, write_table
from sepsis_cql.synthetic.rendering.treatments import Treatments
from sepsis_cql.synthetic.settings import SyntheticSettings
from sepsis_cql.synthetic.simulator import Dose, Episodes, SimulatedICU, simulate

FEWEST = 40  # patients, so that each split gets some
MOST = 1_000_000  # of whom identifiers, and memory, are left
NOTICE = (
    "Simulated tables. Every patient, dose and death in them is made up; they teach nothing about patients and "
    "serve only to run and to test software."
)


@dataclass(frozen=True)
class Synthetic:
    """What was simulated and rendered, the simulator's own record beside the tables.

    Attributes:
        directory: the root with `hosp` and `icu`.
        episodes: the simulation; stay i of it is row i of the roster.
        roster: patients, ids and dates.
        row_counts: rows of each table.
    """

    directory: Path
    episodes: Episodes
    roster: Roster
    row_counts: dict[str, int]

    @property
    def cohort(self) -> np.ndarray:
        """Return the positions of the stays the replay must select."""
        return np.flatnonzero(self.roster.kind == COHORT)


def synthesize(
    out: Path,
    n_patients: int,
    seed: int,
    settings: SyntheticSettings,
    *,
    force: bool = False,
    inputs: Sequence[Path | str] = (),
    choose: Dose | None = None,
    report: Callable[[str, int], None] = lambda text, left: None,
) -> Synthetic:
    """Simulate `n_patients` patients and write them under `out` as csv.gz tables of MIMIC-IV 3.1.

    Args:
        out: the root to create.
        n_patients: patients; about half of them belong to the septic cohort.
        seed: the same seed gives the same bytes.
        settings: of the simulator.
        force: replace what this made before.
        inputs: files of settings, which are never replaced.
        choose: doses, as for `simulate`; the clinicians' without it.
        report: called with what is done next, and how many such calls follow.

    Raises:
        SettingsError: too few patients, or too many.
    """
    if not FEWEST <= n_patients <= MOST:
        raise SettingsError(
            f"--patients: found {n_patients}, expected at least {FEWEST} to fill every split, and at most {MOST:,}."
        )
    formats = load_shipped(TableFormats, "synthetic_tables.yaml")
    left = sum(map(len, formats.headers.values())) + 1
    with new_directory(out, "synthesize", force=force, inputs=inputs) as directory:
        report("patients", left)
        simulated, quirks = np.random.SeedSequence(seed).spawn(2)
        _, n_earlier, n_later = count_stays(n_patients, settings.rendering)
        episodes = simulate(SimulatedICU(settings, n_patients + n_earlier + n_later, simulated), choose)
        rng = np.random.default_rng(quirks)
        roster = make_roster(episodes, n_patients, settings.rendering, rng)
        report("charts", left - 1)
        tables = _tables(roster, episodes, settings, formats, rng)
        for folder, headers in formats.headers.items():
            for name, header in headers.items():
                left -= 1
                report(name, left - 1)
                write_table(directory / folder, name, header, tables[name])
        write_json(directory / SYNTHETIC_MARK, simulation_record(n_patients, seed, settings).model_dump())
        (directory / "README.txt").write_text(f"{NOTICE}\n", encoding="utf-8")
    return Synthetic(
        out, episodes, roster, {name: len(next(iter(table.values()))) for name, table in tables.items()}
    )


def simulation_record(n_patients: int, seed: int, settings: SyntheticSettings) -> Simulation:
    """Describe a simulation as SYNTHETIC.json holds it, which the build copies into the replay's provenance."""
    values = settings.model_dump(mode="json")
    return Simulation(
        generator="sepsis-cql synthesize",
        version=settings.version,
        patients=n_patients,
        seed=seed,
        settings_sha256=sha256_json(values),
        settings=values,
        notice=NOTICE,
    )


def _tables(
    roster: Roster,
    episodes: Episodes,
    settings: SyntheticSettings,
    formats: TableFormats,
    rng: np.random.Generator,
) -> dict[str, dict[str, np.ndarray]]:
    """Columns of every table."""
    bedside = Bedside(roster, episodes, settings.rendering, rng)
    laboratory = Laboratory(roster, episodes, settings, rng)
    treatments = Treatments(roster, episodes, rng)
    laboratory.add_arrival(episodes.icu.arrival)
    for index, window in enumerate(episodes.windows):
        bedside.add_window(index, window)
        laboratory.add_window(index, window)
    treatments.add_all()
    stays, transfers = hospital.icustays(roster, rng)
    prescriptions, cultures = hospital.infections(roster, settings.rendering, rng)
    units = {itemid: item.unit for itemid, item in formats.items.items()}
    lab_units = {itemid: item.unit for itemid, item in formats.lab_items.items()}
    chart = hospital.with_keys(bedside.chart.columns(), roster)
    labs = hospital.with_keys(laboratory.rows.columns(), roster, stay_id=False)
    labs["labevent_id"] = 1 + np.arange(len(labs["itemid"]))
    return {
        "patients": hospital.patients(roster, rng),
        "admissions": hospital.admissions(roster, rng),
        "icustays": stays,
        "transfers": transfers,
        "chartevents": _with_text(chart, units) | {"warning": np.zeros(len(chart["itemid"]), np.int64)},
        "labevents": _with_text(labs, lab_units),
        "inputevents": hospital.with_keys(treatments.rows.columns(), roster),
        "outputevents": hospital.with_keys(bedside.output.columns(), roster),
        "procedureevents": hospital.procedures(roster, episodes),
        "prescriptions": prescriptions,
        "microbiologyevents": cultures,
        "d_items": _dictionary(formats.items, unitname="unit", abbreviation="label"),
        "d_labitems": _dictionary(formats.lab_items),
    }


def _with_text(columns: dict[str, np.ndarray], units: dict[int, str | None]) -> dict[str, np.ndarray]:
    """Numbers as text too, where there is no other text, and the unit of each item."""
    numbers = columns["valuenum"]
    as_text = pc.cast(pa.array(numbers, mask=np.isnan(numbers)), pa.string()).to_numpy(zero_copy_only=False)
    value = np.where(columns["value"] == None, as_text, columns["value"])  # noqa: E711
    itemids, positions = np.unique(columns["itemid"], return_inverse=True)
    unit = np.array([units[int(itemid)] for itemid in itemids], object)[positions]
    return columns | {"value": value, "valueuom": unit}


def _dictionary(items: dict[int, Any], **renamed: str) -> dict[str, np.ndarray]:
    rows = [item.model_dump() for item in items.values()]
    columns = {name: np.array([row[name] for row in rows], object) for name in rows[0]}
    copies = {name: columns[source] for name, source in renamed.items()}
    return {"itemid": np.array(list(items)), **columns, **copies}
