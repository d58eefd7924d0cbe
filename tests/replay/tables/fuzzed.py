"""Made-up tables with chart text, random storetimes and odd units, and what the official concepts make of them.

The digests in tests/golden/official_concepts.json are of the official queries' own results on these tables:

    python tests/replay/tables/fuzzed.py MIMIC_CODE/mimic-iv/concepts_duckdb

Rows are drawn by `random.Random`, whose numbers are the same in every Python.
"""

import json
import random
import sys
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from sepsis_cql.common.strict import load_shipped
from sepsis_cql.replay.mimic.concepts import FURTHER, create_concepts
from sepsis_cql.replay.mimic.raw_files import TablesSettings
from sepsis_cql.replay.report.official import load_official_concepts

GOLDEN = Path(__file__).parents[2] / "golden" / "official_concepts.json"
TABLES = load_shipped(TablesSettings, "tables.yaml").with_concepts(FURTHER).tables
START = datetime(2150, 3, 1)
PATIENTS, HOURS = 12, 60
OFFICIAL = [  # in the order in which they need each other
    "demographics/icustay_times", "demographics/icustay_hourly", "demographics/age",
    "demographics/icustay_detail", "demographics/weight_durations", "measurement/urine_output",
    "measurement/bg", "measurement/gcs", "measurement/height", "measurement/oxygen_delivery",
    "measurement/ventilator_setting", "measurement/vitalsign", "measurement/chemistry",
    "measurement/complete_blood_count", "measurement/enzyme", "medication/antibiotic",
    "medication/dobutamine", "medication/dopamine", "medication/epinephrine", "medication/milrinone",
    "medication/norepinephrine", "medication/phenylephrine", "medication/vasopressin",
    "medication/vasoactive_agent", "medication/norepinephrine_equivalent_dose", "treatment/crrt",
    "treatment/rrt", "treatment/code_status", "treatment/ventilation", "measurement/urine_output_rate",
    "score/sofa", "sepsis/suspicion_of_infection", "sepsis/sepsis3", "measurement/blood_differential",
    "measurement/coagulation", "firstday/first_day_gcs", "firstday/first_day_lab", "firstday/first_day_urine_output",
    "firstday/first_day_vitalsign", "firstday/first_day_sofa", "organfailure/kdigo_creatinine",
    "organfailure/kdigo_uo", "organfailure/kdigo_stages", "comorbidity/charlson", "score/oasis", "score/sapsii",
]  # fmt: skip

DEVICES = ["Endotracheal tube", "Trach mask ", "Tracheostomy tube", "Bipap mask ", "CPAP mask ", "None"]
DEVICES += ["High flow nasal cannula", "Nasal cannula", "Venti mask ", "Non-rebreather", "T-piece"]
CHARTED: dict[int, list[Any]] = {  # item: texts, or the range of its numbers
    220045: [40, 150], 220050: [60, 200], 220051: [20, 100], 220052: [30, 120], 220179: [-5, 420],
    220180: [20, 320], 220181: [30, 120], 220210: [5, 75], 224690: [5, 40], 220277: [60, 105],
    223761: [60, 125], 223762: [9, 52], 225664: [-1, 400], 223835: [0.1, 101], 220339: [-2, 30],
    224700: [0, 110], 224688: [8, 30], 224687: [2, 15], 224685: [200, 800], 224696: [10, 40], 226512: [-1, 160],
    224639: [40, 160], 226730: [110, 240], 223834: [0, 60], 227582: [0, 60], 227287: [0, 15],
    224144: [50, 300], 224154: [0, 2000], 226457: [0, 500], 226118: [0, 1], 228004: [0, 300],
    220739: [1, 4], 223901: [1, 6], 223900: ["Oriented", "Confused", "No Response-ETT", "No Response"],
    223849: ["CMV/ASSIST", "PSV/SBT", "Standby", "SIMV", "CPAP/PSV"], 229314: ["NIV", "DuoPaP", "ASV", "SPONT"],
    226732: DEVICES, 223848: ["Drager", "Hamilton"], 224642: ["Oral", "Blood"],
    224146: ["Active", "Clots Present", "No Clot Present", "Clots Increasing", "Clotted", "Recirculating"],
    227290: ["CVVHDF", "CVVH"], 225965: ["In use", "Capped"], 224404: ["Yes"],
    223758: ["Full code", "DNR / DNI", "DNR (do not resuscitate)", "DNI (do not intubate)", "Comfort measures only"],
}  # fmt: skip
OFTEN = {226732, 223834, 227582, 223849, 229314, 223900, 223901, 220739}
DRAWN = {50912: [0.3, 8], 50885: [0.1, 15], 51265: [5, 400], 50813: [0.5, 15]}
SCORED = {51006: [3, 320], 50971: [-1, 8], 50983: [110, 160], 50882: [8, 30], 51301: [0.2, 40]}
CODED = {
    9: [
        "41071",
        "4280",
        "4254",
        "4251",
        "40391",
        "40310",
        "4409",
        "43491",
        "2900",
        "4912",
        "5064",
        "7140",
        "7143",
        "53140",
        "5715",
        "07032",
        "25000",
        "25040",
        "25060",
        "34200",
        "5859",
        "V560",
        "1749",
        "1740",
        "173",
        "20020",
        "20240",
        "20239",
        "20530",
        "1991",
        "1990",
        "19889",
        "20974",
        "20976",
        "042",
        "0449",
        "2733",
        "5728",
        "4560",
    ],
    10: [
        "I214",
        "I252",
        "I509",
        "I420",
        "I424",
        "I739",
        "I639",
        "G459",
        "H340",
        "F0390",
        "J449",
        "J4A0",
        "J684",
        "M069",
        "M351",
        "K259",
        "K7030",
        "K7031",
        "K7460",
        "E1165",
        "E119",
        "E1122",
        "E1421",
        "G8190",
        "G834",
        "N186",
        "Z992",
        "I120",
        "C3490",
        "C4A0",
        "C7A00",
        "C8330",
        "C7951",
        "C800",
        "C801",
        "B20",
        "B23",
        "K7290",
        "K766",
        "I8500",
    ],
}
GAS = {
    50821: [30, 400],
    50818: [20, 90],
    50816: [0.1, 101],
    50820: [6.9, 7.6],
    50802: [-20, 10],
    50817: [40, 104],
}
INFUSED = {  # item: rates and units
    221906: ([0.01, 0.6], ["mcg/kg/min", "mcg/kg/min", "mg/kg/min"]), 221289: ([0.01, 0.4], ["mcg/kg/min"]),
    221749: ([0.2, 120], ["mcg/kg/min", "mcg/min"]), 222315: ([0.02, 4], ["units/hour", "units/min"]),
    221662: ([1, 20], ["mcg/kg/min"]), 221653: ([1, 20], ["mcg/kg/min"]), 221986: ([0.1, 0.7], ["mcg/kg/min"]),
    227525: ([5, 50], ["mL/hour"]),
}  # fmt: skip
WEIGHTS = (226512, 224639)
URINE = [226559, 226560, 226563, 227488, 227489]


class Fuzz:
    """Rows of every table, drawn at random."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ("chartevents", "labevents")}
        for subject_id in range(1, PATIENTS + 1):
            self._patient(subject_id)

    def _add(self, table: str, row: dict[str, Any]) -> None:
        self.rows.setdefault(table, []).append(row)

    def _time(self, start: datetime, hours: float) -> datetime:
        return start + timedelta(minutes=int(self.random.random() * hours * 60) // 10 * 10)

    def _filed(self, charted: datetime) -> datetime | None:
        kind = self.random.random()
        minutes = 0 if kind < 0.3 else -20 if kind < 0.4 else int(1 + kind * 600)
        return None if kind > 0.92 else charted + timedelta(minutes=minutes)

    def _number(self, low: float, high: float) -> float:
        return round(low + (high - low) * self.random.random(), 2)

    def _patient(self, subject_id: int) -> None:
        hadm_id = 100 + subject_id
        begin = START + timedelta(days=30 * subject_id, minutes=37 * subject_id)
        died = subject_id % 5 == 0
        self._add(
            "patients",
            {"subject_id": subject_id, "gender": "FM"[subject_id % 2], "anchor_age": 30 + subject_id}
            | {
                "anchor_year": 2148,
                "anchor_year_group": "2014 - 2016",
                "dod": date(2151, 1, 1) if died else None,
            },
        )
        self._add(
            "admissions",
            {"subject_id": subject_id, "hadm_id": hadm_id, "admittime": begin - timedelta(hours=9)}
            | {"dischtime": begin + timedelta(days=9), "race": "WHITE", "hospital_expire_flag": int(died)}
            | {
                "deathtime": begin + timedelta(days=9) if died else None,
                "admission_type": "EW EMER." if subject_id % 4 else "ELECTIVE",
            },
        )
        for number in range(1 + (subject_id % 3 == 0)):
            stay_id, intime = 1000 * subject_id + number, begin + timedelta(hours=100 * number)
            keys = {"subject_id": subject_id, "hadm_id": hadm_id, "stay_id": stay_id}
            self._add("icustays", keys | {"intime": intime, "outtime": intime + timedelta(hours=HOURS), "los": 2.5}
                      | {"first_careunit": "MICU", "last_careunit": "SICU"})  # fmt: skip
            self._chart(keys, intime)
            self._treat(keys, intime)
            self._draw(keys, intime)
            self._describe(keys, intime)

    def _describe(self, keys: dict[str, int], intime: datetime) -> None:
        """Rows of another stream of chance: services, diagnoses and the laboratory of first-day scores."""
        chance = random.Random(keys["stay_id"])
        lab = {name: keys[name] for name in ("subject_id", "hadm_id")}
        for nth in range(3):
            service = chance.choice(["SURG", "MED", "TSURG", "ORTHO"])
            moved = {"transfertime": intime + timedelta(hours=13 * nth - 9), "curr_service": service}
            self._add("services", lab | moved)
        for _ in range(6):
            version, codes = chance.choice(list(CODED.items()))
            self._add("diagnoses_icd", lab | {"icd_version": version, "icd_code": chance.choice(codes)})
        for nth in range(8):
            time = intime + timedelta(minutes=chance.randrange(-600, 2000), seconds=nth)
            for itemid, (low, high) in SCORED.items():
                row = {
                    "specimen_id": 10**9 + 100 * keys["stay_id"] + nth,
                    "charttime": time,
                    "storetime": time,
                }
                number = round(chance.uniform(low, high), 1)
                self._add("labevents", lab | row | {"itemid": itemid, "valuenum": number})

    def _chart(self, keys: dict[str, int], intime: datetime) -> None:
        for itemid, values in CHARTED.items():
            for nth in range(45 if itemid in OFTEN else 14):
                time = self._time(intime - timedelta(hours=2), HOURS)
                if itemid in WEIGHTS:  # of one time they have no order
                    time = intime + timedelta(hours=4 * nth, minutes=3 * (itemid == 226512))
                again = itemid not in WEIGHTS and self.random.random() < 0.2
                for _copy in range(1 + 2 * again):  # at the same minute
                    text, number = None, None
                    if isinstance(values[0], str):
                        text = values[int(self.random.random() * len(values))]
                        number = float(1 + values.index(text)) if itemid == 223900 else None
                    else:
                        number = self._number(*values)
                        if itemid in (220739, 223901):
                            number = float(round(number))
                        if itemid == 223835 and self.random.random() < 0.3:
                            number = round(number / 100, 2)
                        text = str(number)
                    row = {"charttime": time, "storetime": self._filed(time), "itemid": itemid}
                    if itemid in DISTINCT_TIMES:  # the official order of rows of one time leaves ties open
                        row["storetime"] = time + timedelta(seconds=len(self.rows["chartevents"]) % 3000)
                    self._add("chartevents", keys | row | {"value": text, "valuenum": number})

    def _treat(self, keys: dict[str, int], intime: datetime) -> None:
        for itemid, (rates, units) in INFUSED.items():
            for _ in range(4):
                start = self._time(intime, HOURS - 12)
                unit = units[int(self.random.random() * len(units))]
                row = {"starttime": start, "endtime": start + timedelta(minutes=int(self._number(5, 700)))}
                row |= {"itemid": itemid, "rate": self._number(*rates), "rateuom": unit, "amount": 10.0}
                row |= {"patientweight": 1.0 if self.random.random() < 0.2 else 80.0, "linkorderid": 1}
                self._add("inputevents", keys | row | {"storetime": row["endtime"]})
        for itemid in (225792, 225441, 225802, 224270):
            start = self._time(intime, HOURS - 12)
            row = {
                "starttime": start,
                "endtime": start + timedelta(hours=7),
                "itemid": itemid,
                "value": 420.0,
            }
            self._add("procedureevents", keys | row | {"storetime": start})
        for itemid in URINE:
            for _ in range(14):
                time = self._time(intime, HOURS)
                row = {"charttime": time, "storetime": self._filed(time), "itemid": itemid}
                self._add("outputevents", keys | row | {"value": float(int(self._number(0, 400)))})

    def _draw(self, keys: dict[str, int], intime: datetime) -> None:
        lab = {"subject_id": keys["subject_id"], "hadm_id": keys["hadm_id"]}
        for number in range(30):
            time = self._time(intime - timedelta(hours=12), HOURS + 12)
            items = GAS if number % 2 else DRAWN
            time += timedelta(seconds=number)  # two specimens of one minute have no order
            specimen = {"specimen_id": 10000 * keys["stay_id"] + number, "charttime": time}
            specimen |= lab if self.random.random() < 0.8 else lab | {"hadm_id": None}
            if items is GAS:
                kind = ["ART.", "VEN.", "MIX."][int(self.random.random() * 3)]
                self._add(
                    "labevents", specimen | {"itemid": 52033, "value": kind, "storetime": self._filed(time)}
                )
            for itemid, bounds in items.items():
                if self.random.random() < 0.75:
                    row = {
                        "itemid": itemid,
                        "valuenum": self._number(*bounds),
                        "storetime": self._filed(time),
                    }
                    self._add("labevents", specimen | row)
        for number in range(6):
            time = self._time(intime, HOURS)
            drug = ["Vancomycin", "Cefepime", "Metoprolol", "Neomycin ophth oint"][
                int(self.random.random() * 4)
            ]
            self._add("prescriptions", lab | {"starttime": time, "stoptime": time + timedelta(days=2), "drug": drug}
                      | {"drug_type": "MAIN", "route": ["IV", "PO", "OU"][number % 3]})  # fmt: skip
            time = self._time(intime - timedelta(hours=40), HOURS + 40)
            day = datetime(time.year, time.month, time.day)
            self._add("microbiologyevents", lab | {"micro_specimen_id": 10 * keys["stay_id"] + number}
                      | {"microevent_id": 10 * keys["stay_id"] + number, "chartdate": day}
                      | {"charttime": None if number == 5 else time, "spec_type_desc": "BLOOD CULTURE"}
                      | {"org_name": "ESCHERICHIA COLI" if number == 2 else None, "org_itemid": 80002})  # fmt: skip


DISTINCT_TIMES = {226732, 223834, 227582, 227287}


def load_fuzz(seed: int = 16) -> duckdb.DuckDBPyConnection:
    """A connection with the fuzzed tables under the names that `open_mimic` gives them."""
    connection = duckdb.connect()
    rows = Fuzz(seed).rows
    for name, table in TABLES.items():
        columns = {column: [row.get(column) for row in rows.get(name, [])] for column in table.columns}
        connection.register("fuzzed", pa.table(columns))
        casts = ", ".join(f"CAST({column} AS {kind}) AS {column}" for column, kind in table.columns.items())
        connection.execute(f"CREATE TABLE {name} AS SELECT {casts} FROM fuzzed")
        connection.unregister("fuzzed")
    return connection


def digest(connection: duckdb.DuckDBPyConnection, schema: str = "main") -> dict[str, dict[str, Any]]:
    """Rows of every concept, and a digest of each column with its keys, whatever the order of the rows."""
    found: dict[str, dict[str, Any]] = {}
    for name, concept in load_official_concepts().items():
        table = (
            f"(SELECT * FROM {schema}.{name} {'WHERE subject_id IS NOT NULL' if name == 'height' else ''})"
        )
        kinds = {row[0]: row[1] for row in connection.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()}
        keys = [_plain(column, kinds[column]) for column in concept.key]
        found[name] = {"rows": connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]}
        for column in concept.columns:
            line = f"concat_ws('|', {', '.join([*keys, _plain(column, kinds[column])])})"
            (value,) = connection.execute(
                f"SELECT md5(string_agg({line}, '\n' ORDER BY {line})) FROM {table}"
            ).fetchall()[0]
            found[name][column] = value and value[:12]
    return found


def _plain(column: str, kind: str) -> str:
    """One text for a value, whatever the types of numbers and times on either side."""
    if kind in ("VARCHAR", "DATE", "TIMESTAMP"):
        kind = "VARCHAR" if kind == "VARCHAR" else "TIMESTAMP"
        return f"coalesce(CAST(CAST({column} AS {kind}) AS VARCHAR), '-')"
    return f"coalesce(CAST(CAST(round(CAST({column} AS DOUBLE), 4) + 0 AS DECIMAL(24, 4)) AS VARCHAR), '-')"


def main(folder: Path) -> duckdb.DuckDBPyConnection:
    """Run the official queries on the fuzzed tables and write the digests of their results."""
    connection = load_fuzz()
    for schema in ("mimiciv_hosp", "mimiciv_icu", "mimiciv_derived"):
        connection.execute(f"CREATE SCHEMA {schema}")
    for name, table in TABLES.items():
        connection.execute(f"CREATE VIEW mimiciv_{table.folder}.{name} AS SELECT * FROM main.{name}")
    for name in OFFICIAL:
        connection.execute((folder / f"{name}.sql").read_text(encoding="utf-8"))
    theirs = digest(connection, "mimiciv_derived")
    GOLDEN.write_text(json.dumps(theirs, indent=1) + "\n", encoding="utf-8")
    create_concepts(connection, FURTHER)
    ours = digest(connection)
    for name, columns in theirs.items():
        wrong = [column for column, value in columns.items() if ours[name][column] != value]
        print(f"{name:32} {columns['rows']:>7} rows {'equal' if not wrong else f'differs: {wrong}'}")
    return connection


if __name__ == "__main__":
    main(Path(sys.argv[1]))
