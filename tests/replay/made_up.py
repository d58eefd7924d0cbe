"""A made-up MIMIC-IV root: rows by table, written as csv.gz, and helpers that add clinical events."""

import csv
import gzip
import io
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sepsis_cql.common.strict import load_shipped
from sepsis_cql.replay.build import Engine, build_replay
from sepsis_cql.replay.mimic.concepts import FURTHER, create_concepts
from sepsis_cql.replay.mimic.raw_files import TablesSettings
from sepsis_cql.replay.mimic.tables import open_mimic
from sepsis_cql.replay.report.counts import BuildReport
from sepsis_cql.replay.rows.make import make_rows
from sepsis_cql.replay.rows.splits import SPLITS, assign_splits, uniform_hash
from sepsis_cql.replay.settings import BuildSettings, load_build_settings

SIMULATION = {
    "generator": "made up for this test",
    "version": "1",
    "patients": 6,
    "seed": 3,
    "settings_sha256": "0" * 64,
    "settings": {},
    "notice": "made up",
}
ADMISSION = datetime(2150, 1, 1, 0, 0)
TABLES = load_shipped(TablesSettings, "tables.yaml")
ALL_TABLES = TABLES.with_concepts(FURTHER)
READ = tempfile.TemporaryDirectory()  # tables once read, of which most made-up ones have the same
HEART_RATE, PLATELETS, NOREPINEPHRINE, SALINE = 220045, 51265, 221906, 225158


def at(hours: float) -> datetime:
    """Time so many hours after ICU admission, which is the same moment for every made-up stay."""
    return ADMISSION + timedelta(hours=hours)


class MadeUpMimic:
    """Rows of the tables a build reads; unnamed columns are empty."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.rows["d_items"] = [{"itemid": HEART_RATE, "label": "Heart Rate"}]
        self.rows["d_labitems"] = [
            {"itemid": key, "label": label} for key, label in TABLES.lab_labels.items()
        ]
        self.rows["procedureevents"] = [{"itemid": 225792}]

    def stay(
        self, subject_id: int, *, hours: float = 60, start: float = 0, age: int = 60, **times: Any
    ) -> int:
        """Add an adult's hospital admission with one ICU stay; `times` are dod (date) and deathtime.

        A patient's stays number 1, 2, ...: stay_id and hadm_id are 10 * subject_id + that number.
        """
        number = 1 + sum(row["subject_id"] == subject_id for row in self.rows["icustays"])
        keys = {"subject_id": subject_id, "hadm_id": 10 * subject_id + number}
        stay_id = keys["hadm_id"]
        if number == 1:
            self.rows["patients"].append(
                {"subject_id": subject_id, "gender": "F", "anchor_age": age, "anchor_year": 2150}
                | {"anchor_year_group": "2008 - 2010", "dod": times.get("dod")}
            )
        self.rows["admissions"].append(
            keys
            | {
                "admittime": at(start - 2),
                "dischtime": at(start + hours + 24),
                "deathtime": times.get("deathtime"),
            }
            | {"race": "WHITE", "hospital_expire_flag": int("deathtime" in times)}
        )
        self.rows["icustays"].append(
            keys
            | {"stay_id": stay_id, "first_careunit": "MICU", "last_careunit": "MICU"}
            | {"intime": at(start), "outtime": at(start + hours), "los": hours / 24}
        )
        for hour in range(int(start), int(start + hours)):
            self.chart(stay_id, HEART_RATE, 80 + hour % 7, hour)
        return stay_id

    def septic_stay(
        self, subject_id: int, *, start: float = 0, culture: float = 1, treated: bool = True, **stay: Any
    ) -> int:
        """Add a stay that is septic from one hour after ICU admission on.

        Platelets of 60 give SOFA 2 in the first hour; a culture (after 1 h unless given) and an antibiotic an
        hour after it make the suspicion. `treated` adds norepinephrine and saline at rates that differ from
        patient to patient.
        """
        stay_id = self.stay(subject_id, start=start, **stay)
        self.lab(stay_id, PLATELETS, 60, start + 0.5, filed=start + 0.75)
        keys = self._keys(stay_id)
        self.rows["microbiologyevents"].append(
            {"subject_id": subject_id, "hadm_id": keys["hadm_id"], "micro_specimen_id": stay_id}
            | {"microevent_id": stay_id, "chartdate": at(start).date(), "charttime": at(start + culture)}
            | {"spec_type_desc": "BLOOD CULTURE"}
        )
        self.rows["prescriptions"].append(
            {"subject_id": subject_id, "hadm_id": keys["hadm_id"], "starttime": at(start + culture + 1)}
            | {"stoptime": at(start + culture + 25), "drug_type": "MAIN", "drug": "Vancomycin", "route": "IV"}
        )
        if treated:
            dose = 0.05 + subject_id % 10 / 20
            self.infuse(stay_id, NOREPINEPHRINE, start + 6, start + 13.5, rate=dose, unit="mcg/kg/min")
            self.infuse(
                stay_id, SALINE, start + 3, start + 30, rate=60 + 5 * (subject_id % 17), unit="mL/hour"
            )
        return stay_id

    def chart(self, stay_id: int, itemid: int, number: float, hour: float, **more: Any) -> None:
        """Add a chartevents row; `filed` is its storetime in hours, `value` its text."""
        self.rows["chartevents"].append(self._keys(stay_id) | _measured(itemid, number, hour, more) | more)

    def lab(self, stay_id: int, itemid: int, number: float | None, hour: float, **more: Any) -> None:
        """Add a labevents row; `filed` is its storetime in hours."""
        row = _measured(itemid, number, hour, more)
        row["specimen_id"] = 1 + len(self.rows["labevents"])
        keys = {"subject_id": stay_id // 10, "hadm_id": stay_id}
        self.rows["labevents"].append(keys | row | more)

    def arterial_gas(self, stay_id: int, hour: float, *, filed: float | None = None, **values: float) -> None:
        """Add an arterial blood gas; `values` are item ids as `item_<id>`."""
        specimen_id = 10**6 + len(self.rows["labevents"])
        known = hour if filed is None else filed
        self.lab(stay_id, 52033, None, hour, filed=known, value="ART.", specimen_id=specimen_id)
        for name, number in values.items():
            self.lab(stay_id, int(name[5:]), number, hour, filed=known, specimen_id=specimen_id)

    def infuse(
        self, stay_id: int, itemid: int, start: float, end: float, *, rate: float, unit: str, **more: Any
    ) -> None:
        """Add an inputevents row with a rate; its amount is rate times hours unless given."""
        row = {"itemid": itemid, "starttime": at(start), "endtime": at(end), "rate": rate, "rateuom": unit}
        row |= {"amount": rate * (end - start), "amountuom": "mL", "patientweight": 80, "linkorderid": 1}
        row |= {"storetime": at(end), "statusdescription": "FinishedRunning"}
        self.rows["inputevents"].append(self._keys(stay_id) | row | more)

    def bolus(self, stay_id: int, itemid: int, hour: float, amount: float, **more: Any) -> None:
        """Add an inputevents row without a rate, which ends a minute after it starts."""
        row = {"itemid": itemid, "starttime": at(hour), "endtime": at(hour + 1 / 60), "amount": amount}
        row |= {"amountuom": "mL", "patientweight": 80, "linkorderid": 1, "storetime": at(hour)}
        self.rows["inputevents"].append(self._keys(stay_id) | row | more)

    def diagnose(self, stay_id: int, icd_code: str, icd_version: int, service: str) -> None:
        """Add a coded diagnosis, and a service from admission on."""
        keys = {name: key for name, key in self._keys(stay_id).items() if name != "stay_id"}
        self.rows["diagnoses_icd"].append(keys | {"icd_code": icd_code, "icd_version": icd_version})
        self.rows["services"].append(keys | {"transfertime": at(-2), "curr_service": service})

    def output(
        self, stay_id: int, itemid: int, volume: float, hour: float, *, filed: float | None = None
    ) -> None:
        """Add an outputevents row."""
        row = {"itemid": itemid, "value": volume, "valueuom": "mL", "charttime": at(hour)}
        row["storetime"] = at(hour if filed is None else filed)
        self.rows["outputevents"].append(self._keys(stay_id) | row)

    def write(self, root: Path) -> Path:
        """Write every table under `root` and return it; of those that only some concepts need, those with rows."""
        if not self.rows["outputevents"]:
            self.output(self.rows["icustays"][0]["stay_id"], 226559, 50, 1)
        for name, table in ALL_TABLES.tables.items():
            if table.needed_by and not self.rows[name]:
                continue
            folder = root / table.folder
            folder.mkdir(parents=True, exist_ok=True)
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, fieldnames=list(table.columns))
            writer.writeheader()
            writer.writerows(self.rows[name])
            packed = gzip.compress(text.getvalue().encode(), compresslevel=1, mtime=0)
            (folder / f"{name}.csv.gz").write_bytes(packed)
        return root

    def _keys(self, stay_id: int) -> dict[str, int]:
        return {"subject_id": stay_id // 10, "hadm_id": stay_id, "stay_id": stay_id}


def subject_ids(split: str, count: int) -> list[int]:
    """The first patients' numbers from 1001 on that the shipped seed and shares put into `split`."""
    settings = build_settings().replay
    bounds = {"train": (0, 0.7), "validation": (0.7, 0.85), "test": (0.85, 1)}[split]
    found = [n for n in range(1001, 2001) if bounds[0] <= uniform_hash(n, settings.seed) < bounds[1]]
    return found[:count]


def three_splits(train: int = 4, others: int = 1) -> list[int]:
    """Patients' numbers, `train` of them in the training split and `others` in each of the two others."""
    counts = {"train": train, "validation": others, "test": others}
    chosen = [number for split in SPLITS for number in subject_ids(split, counts[split])]
    assign_splits(
        pd.Series(chosen).to_numpy(), build_settings().replay.split_shares, build_settings().replay.seed
    )
    return chosen


def six_septic_patients() -> MadeUpMimic:
    """Six treated septic patients: four in training, one in validation, one in test."""
    made_up = MadeUpMimic()
    for subject_id in three_splits():
        made_up.septic_stay(subject_id)
    return made_up


def build_settings(**changes: Any) -> BuildSettings:
    """The shipped settings with `changes` of the replay's."""
    return load_build_settings(changes=changes)


def build(mimic: MadeUpMimic, folder: Path, **changes: Any) -> BuildReport:
    """Write the made-up tables into `folder` and build `folder/replay` from them."""
    engine = Engine(cache=Path(READ.name))
    return build_replay(
        mimic.write(folder / "mimic"), folder / "replay", build_settings(**changes), engine=engine
    )


@contextmanager
def steps_of(mimic: MadeUpMimic, folder: Path) -> Iterator[Callable[..., pd.DataFrame]]:
    """Yield what gives every transition by the shipped settings with some changed, as `read_steps` would of a build."""
    root = mimic.write(folder / "mimic")
    with open_mimic(root, cache=Path(READ.name), items=build_settings().items) as tables:
        create_concepts(tables.connection)
        yield lambda **changes: list_steps(make_rows(tables.connection, build_settings(**changes)).buffers)


def read_steps(replay: Path) -> pd.DataFrame:
    """Every transition of a replay directory, one column a state name, sorted by stay and step."""
    return list_steps({split: pq.read_table(replay / f"{split}.parquet") for split in SPLITS})


def list_steps(buffers: dict[str, pa.Table]) -> pd.DataFrame:
    """Every transition of replay buffers by split, one column a state name, sorted by stay and step."""
    frames = []
    for split, buffer in buffers.items():
        frame = buffer.to_pandas().assign(split=split)
        states = pd.DataFrame(frame.pop("state").tolist(), columns=state_names_of(buffer.schema))
        frames.append(pd.concat([frame, states], axis=1))
    return pd.concat(frames).sort_values(["stay_id", "step_index"]).reset_index(drop=True)


def read_state_names(replay: Path) -> list[str]:
    """Names of the state columns, from the metadata."""
    return state_names_of(pq.read_schema(replay / "train.parquet"))


def state_names_of(schema: pa.Schema) -> list[str]:
    return schema.metadata[b"state_names"].decode().split(",")


def _measured(itemid: int, number: float | None, hour: float, more: dict[str, Any]) -> dict[str, Any]:
    times = {"charttime": at(hour), "storetime": at(more.pop("filed", hour))}
    return {"itemid": itemid, "valuenum": number, "value": number} | times
