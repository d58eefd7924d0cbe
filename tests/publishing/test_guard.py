"""Planted leaks: none may pass, and a clean export does."""

import json
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from sepsis_cql.common.errors import PublishingError, SepsisCQLError
from sepsis_cql.common.provenance import ROOT
from sepsis_cql.publishing.card import write_card
from sepsis_cql.publishing.guard.files import check_export
from sepsis_cql.publishing.manifest import write_manifest

EVALUATION = "model/evidence/evaluation.json"
BUILD = "model/evidence/build_report.json"
TRAINING = "model/evidence/training.json"


def test_clean_export_passes_and_every_file_has_a_reason(export):
    allowed = check_export(export)
    assert len(allowed) == sum(path.is_file() for path in export.rglob("*"))
    assert all(reason for _, _, reason in allowed)


def add(name, content=b"x"):
    def plant(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return plant


def in_json(name, change):
    def plant(folder: Path) -> None:
        document = json.loads((folder / name).read_text())
        change(document)
        (folder / name).write_text(json.dumps(document, indent=2))
        if name.startswith("model/evidence"):
            try_to_render(folder)

    return plant


def try_to_render(folder: Path) -> None:
    """Make the card agree with the planted evidence, so that the evidence itself has to be caught."""
    try:
        write_card(folder)
    except (SepsisCQLError, KeyError, TypeError, ValueError):
        return


def in_card(text):
    def plant(folder: Path) -> None:
        (folder / "README.md").write_text((folder / "README.md").read_text() + text)

    return plant


def in_weights(change, metadata=None):
    def plant(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata=metadata or {"format": "pt"})

    return plant


def append(name, content):
    def plant(folder: Path) -> None:
        with next(folder.glob(name)).open("ab") as stream:
            stream.write(content)

    return plant


def png_text(folder: Path) -> None:
    file = next((folder / "model" / "figures").glob("*.png"))
    content, data = file.read_bytes(), b"Comment\0subject 10012345"
    chunk = struct.pack(">I", len(data)) + b"tEXt" + data + struct.pack(">I", zlib.crc32(b"tEXt" + data))
    file.write_bytes(content[:33] + chunk + content[33:])


def zip_member(folder: Path) -> None:
    with zipfile.ZipFile(next(folder.glob("model/*.pt")), "a") as archive:
        archive.writestr("archive/rows.csv", "subject_id\n10012345\n" * 3)


def link(folder: Path) -> None:
    (folder / "LICENSE").unlink()
    (folder / "LICENSE").symlink_to(ROOT / "LICENSE")


def put(key, value):
    return lambda document: document.__setitem__(key, value)


LEAKS = {
    "parquet": add("train.parquet", b"PAR1"),
    "arrow": add("model/rows.arrow"),
    "csv": add("stays.csv", b"subject_id\n"),
    "csv.gz": add("hosp/patients.csv.gz"),
    "npz": add("model/states.npz"),
    "npy": lambda folder: np.save(folder / "states.npy", np.zeros((3, 62))),
    "pickle": add("model/policy.pkl"),
    "database": add("mimic.duckdb"),
    "replay marker": add(".private-replay"),
    "hidden file": add(".env", b"A=1"),
    "hidden folder": add(".cache/rows.json", b"{}"),
    "log": add("train.log"),
    "notebook": add("analysis.ipynb", b"{}"),
    "html report": add("report.html"),
    "own code": add("steal.py", b"print(1)"),
    "symbolic link": link,
    "changed code": append("modeling_sepsis_cql.py", b"\n# 1\n"),
    "changed settings": append("configs/cql.yaml", b"\n# stay 31234567\n"),
    "changed licence": append("LICENSE", b"\nnote"),
    "subject_id in JSON": in_json(TRAINING, put("note", 10012345)),
    "stay_id as text": in_json(TRAINING, put("note", "stay 31234567")),
    "hadm_id with separators": in_json(TRAINING, put("note", "admission 22,345,678")),
    "identifier in a key": in_json(TRAINING, put("10012345", 1)),
    "key of a row": in_json(TRAINING, put("subject_id", 7)),
    "shifted date": in_json(TRAINING, put("note", "2153-04-01")),
    "shifted date in words": in_json(TRAINING, put("note", "1 April 2153")),
    "shifted Unix time": in_json(TRAINING, put("note", 5782000000)),
    "absolute path": in_json(TRAINING, put("note", "/home/someone/mimic")),
    "windows path": in_json(TRAINING, put("note", "C:\\mimic\\hosp")),
    "token": in_json(TRAINING, put("note", "hf_" + "a" * 30)),
    "free text": in_json(TRAINING, put("note", "patient was admitted with " * 100)),
    "list of rows": in_json(TRAINING, put("ages", list(range(100)))),
    "table of rows": in_json(TRAINING, put("ages", {f"p{i}": i + 20 for i in range(100)})),
    "encoded bytes": in_json(TRAINING, put("note", "QUJD" * 40)),
    "small count of patients": in_json(BUILD, lambda report: report["splits"].__setitem__("n_patients", 3)),
    "small count of deaths": in_json(BUILD, lambda report: report["cohort"].__setitem__("deaths", 4)),
    "unknown field of an evaluation": in_json(EVALUATION, put("rows", [1, 2])),
    "identifier in an evaluation": in_json(
        EVALUATION, lambda record: record["policy"].__setitem__("name", "policy of 10012345")
    ),
    "identifier in the configuration": in_json("config.json", put("training_data", "stay 31234567")),
    "unknown field of the configuration": in_json("config.json", put("rows", [1])),
    "unknown field of the extractor": in_json("preprocessor_config.json", put("rows", [1])),
    "identifier in the card": in_card("\nsubject 10012345\n"),
    "date in the card": in_card("\nadmitted 2153-04-01\n"),
    "edited number in the card": in_card("\nAccuracy 0.99\n"),
    "tensor of rows": in_weights(lambda tensors: tensors.__setitem__("rows", tensors["mean"].clone())),
    "metadata of the weights": in_weights(lambda tensors: None, {"format": "pt", "note": "stay 31234567"}),
    "bytes after the weights": append("model.safetensors", b"10012345"),
    "text in a picture": png_text,
    "bytes after a picture": append("model/figures/*.png", b"10012345"),
    "file in the checkpoint's archive": zip_member,
    "file left out of the manifest": lambda folder: (folder / "manifest.json").write_text('{"files": {}}'),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_no_planted_leak_passes(export, leak):
    LEAKS[leak](export)
    if leak != "file left out of the manifest":
        write_manifest(export)
    with pytest.raises(PublishingError) as refusal:
        check_export(export)
    assert "10012345" not in str(refusal.value)
    assert "31234567" not in str(refusal.value)
