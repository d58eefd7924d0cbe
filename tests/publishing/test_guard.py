"""A campaign of planted leaks: none may pass, however the files around it are made to fit, and a clean export does."""

import dataclasses
import hashlib
import json
from collections import Counter
from functools import lru_cache
from types import SimpleNamespace

import pytest

from sepsis_cql.checkpoints.example import example_patient
from sepsis_cql.common.errors import PublishingError
from sepsis_cql.common.provenance import ROOT
from sepsis_cql.publishing.card import render_pages
from sepsis_cql.publishing.evidence import RECORDS, disagreements, read_records, read_sources
from sepsis_cql.publishing.guard import files as guard
from sepsis_cql.publishing.guard.files import inspect, make_export, read_export
from sepsis_cql.publishing.manifest import MANIFEST, dump_manifest
from sepsis_cql.publishing.package import (
    describe_extractor,
    describe_network,
    extractor_of,
    make_files,
    shipped_files,
)

from .containers import CHECKPOINTS, PICTURES, WEIGHTS
from .leaks import TEXTS, mutate, respell

EVIDENCE = [file.stem for file in sorted((ROOT / "model" / "evidence").glob("*.json"))]
DOCUMENTS = (
    "config.json", "preprocessor_config.json", "manifest.json", *(f"model/evidence/{name}.json" for name in EVIDENCE),
    *(file.relative_to(ROOT).as_posix() for file in sorted((ROOT / "evaluation").glob("*.json"))),
)  # fmt: skip
CHECKPOINT = f"model/{next((ROOT / 'model').glob('*.pt')).stem}"
TRIED: Counter[str] = Counter()


READ: dict[tuple[int, ...], object] = {}
MADE: dict[tuple[str, int], object] = {}


@pytest.fixture(autouse=True)
def remembered(monkeypatch):
    """Read and make once, not a thousand times, what no leak has changed."""

    def read(files):
        names = [name for name in files if name.endswith((".pt", ".safetensors")) or name in RECORDS.values()]
        key = tuple(hash((name, files[name])) for name in names)
        if key not in READ:
            READ[key] = read_sources(files)
        return READ[key]

    def make(function, first, *rest):
        key = (
            f"{function.__name__}{rest}",
            id(first),
        )  # what was read stays in READ, so that its id is its own
        if key not in MADE:
            MADE[key] = function(first, *rest)
        return MADE[key]

    monkeypatch.setattr(guard, "read_sources", read)
    monkeypatch.setattr(guard, "make_files", lambda sources: make(make_files, sources))
    monkeypatch.setattr(
        guard, "render_pages", lambda records, names: make(render_pages, records, tuple(names))
    )
    monkeypatch.setattr(guard, "disagreements", lambda sources: make(listed_disagreements, sources))
    monkeypatch.setattr(guard, "shipped_files", lambda: make(shipped_files_of, "installed"))
    monkeypatch.setattr(guard, "dump_manifest", fitting_manifest)
    monkeypatch.setattr("sepsis_cql.publishing.manifest.hashlib", SimpleNamespace(sha256=sha256))


def listed_disagreements(sources):
    return list(disagreements(sources))


def shipped_files_of(place):
    return shipped_files()


sha256 = lru_cache(maxsize=512)(hashlib.sha256)


def fitting_manifest(files):
    return manifest_of(frozenset(part for part in files.items() if part[0] != MANIFEST))


@lru_cache(maxsize=4)
def manifest_of(files):
    return dump_manifest(dict(files))


def survivors(clean, planted, judge=None):
    """Names of the leaks that pass, or are repeated in the refusal, although everything else was made to fit."""
    passed = []
    for name, changes in planted:
        files = {path: data for path, data in (clean | changes).items() if data is not None}
        TRIED["tried"] += 1
        problems = (judge or refuse)(files, changes)
        if not problems or "10012345" in str(problems) or "2153" in str(problems):
            passed.append(name)
    return passed


def refuse(files, changes):
    """Why the files are refused; from changed records everything else could be made anew, so they must fail alone."""
    if set(changes) & set(RECORDS.values()):
        try:
            return list(disagreements(read_sources(files)))
        except PublishingError as error:
            return [str(error)]
    return refuse_as_it_is(files, changes)


def refuse_as_it_is(files, changes):
    """Why the files are refused beside the pages and figures that the clean records gave."""
    if set(changes) != {MANIFEST}:
        files[MANIFEST] = fitting_manifest(files)
    return [str(problem) for problem in inspect(files)[1]]


def test_clean_export_passes_byte_for_byte_and_every_file_has_a_reason(export, clean):
    checked = read_export(export)
    assert checked.files == clean
    assert make_export(read_sources(clean)).files == clean
    assert all(reason for _, _, reason in checked.list_files())


@pytest.mark.parametrize("name", [*DOCUMENTS, f"{CHECKPOINT}_manifest.json"])
def test_no_leak_in_a_document_passes(clean, name):
    planted = list(mutate(json.loads(clean[name])))
    step = max(1, len(planted) // 120)
    spelt = ((leak, dump(make())) for leak, make in planted[::step])
    assert survivors(clean, [(leak, {name: data}) for leak, data in spelt if data != clean[name]]) == []


@pytest.mark.parametrize("name", [*DOCUMENTS, f"{CHECKPOINT}_manifest.json"])
def test_no_other_spelling_of_a_document_passes(clean, name):
    planted = [(leak, {name: data}) for leak, data in respell(clean[name]) if data != clean[name]]
    assert survivors(clean, planted) == []


def dump(document):
    return (json.dumps(document, indent=2) + "\n").encode()


@pytest.mark.parametrize(
    "name", ["README.md", "docs/results.md", "LICENSE", "modeling_sepsis_cql.py", "configs/cql.yaml"]
)
def test_no_leak_in_a_text_passes(clean, name):
    data = clean[name]
    places = [
        lambda leak: data + leak,
        lambda leak: leak + data,
        lambda leak: data.replace(b"\n", b"\n# " + leak, 1),
    ]
    planted = [
        (f"{text[:20]} {place}", {name: places[place](f"{text}\n".encode())})
        for place in range(3)
        for text in TEXTS
        if text
    ]
    assert survivors(clean, planted) == []


@pytest.mark.parametrize("leak", PICTURES)
def test_no_leak_in_a_picture_passes(clean, leak):
    pictures = sorted(name for name in clean if name.endswith(".png"))
    planted = [
        (name, {name: PICTURES[leak](clean[name])}) for name in pictures[:: 1 if "chunk" in leak else 3]
    ]
    assert survivors(clean, planted) == []


@pytest.mark.parametrize("leak", WEIGHTS)
def test_no_leak_in_the_weights_passes(clean, leak):
    name = "model.safetensors"
    assert survivors(clean, [(leak, {name: WEIGHTS[leak](clean[name])})]) == []


@pytest.mark.parametrize("leak", CHECKPOINTS)
def test_no_leak_in_the_checkpoint_passes(clean, leak):
    name = f"{CHECKPOINT}.pt"
    assert survivors(clean, [(leak, {name: CHECKPOINTS[leak](clean[name])})]) == []


def test_no_other_file_passes(clean):
    names = [
        "model/evidence/rows.json", "model/evidence/validation_evaluation.json", "model/figures/rows.png",
        "model/cql_epoch0300_step0001801.pt", "model/bc_epoch0001_step0000001.pt", "configs/mine.yaml", "stays.csv",
        "model/cql_epoch0300_step0001801_manifest.json", "pipeline_sepsis_cql.py.bak", "10012345.json",
    ]  # fmt: skip
    planted = [(name, {name: clean["LICENSE"]}) for name in names]
    planted += [(f"without {name}", {name: None}) for name in clean if name != MANIFEST]
    planted += [
        (f"{name} renamed", {name: None, f"{name}.old": clean[name]}) for name in clean if name != MANIFEST
    ]
    planted += [
        (f"{name} for {other}", {name: clean[other]})
        for name, other in zip(clean, [*clean][1:], strict=False)
    ]
    assert survivors(clean, planted, refuse_as_it_is) == []


@pytest.mark.parametrize(
    "name", ["train.parquet", ".private-replay", ".env", ".cache/rows.json", "hosp/patients.csv.gz", "steal.py",
             "model/states.npz", "model/10012345.pt", "report.html", "explorer.html", "README.md/rows.csv"],
)  # fmt: skip
def test_foreign_file_in_a_directory_is_refused_without_its_number(export, name):
    if name.startswith("README.md"):
        (export / "README.md").unlink()
    (export / name).parent.mkdir(parents=True, exist_ok=True)
    (export / name).write_bytes(b"x")
    with pytest.raises(PublishingError) as refusal:
        read_export(export)
    assert "10012345" not in str(refusal.value)


@pytest.mark.parametrize("target", ["file", "folder", "pipe"])
def test_link_or_pipe_is_refused(export, tmp_path, target):
    import os

    place = export / ("configs" if target == "folder" else "LICENSE")
    place.rename(tmp_path / "elsewhere")
    if target == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PublishingError):
        read_export(export)


def test_what_is_no_export_is_said_in_one_line(tmp_path):
    for index in range(300):
        (tmp_path / f"subject_{index}.csv").write_text("10012345")
    with pytest.raises(PublishingError, match=r"no manifest\.json, so this is not an export") as refusal:
        read_export(tmp_path)
    assert "\n" not in str(refusal.value)


def test_refusal_lists_ten_differences_and_counts_the_rest(export):
    for index in range(40):
        (export / f"subject_{index}.csv").write_text("10012345")
    with pytest.raises(PublishingError, match="and 30 more") as refusal:
        read_export(export)
    assert "40 problems" in str(refusal.value)
    assert len(str(refusal.value).splitlines()) < 15


def test_campaign_was_large():
    if TRIED["tried"]:
        print(f"{TRIED['tried']} leaks planted")
        assert TRIED["tried"] >= 300


@pytest.mark.parametrize(("variant", "bound"), [("sparse", 15.0), ("sofa_shaped", 15.6)])
def test_package_says_the_largest_return_of_the_reward_it_was_trained_on(clean, variant, bound):
    records = read_records(clean)
    training = records.training.model_copy(
        update={"settings": records.training.settings | {"reward_variant": variant}}
    )
    config = json.loads(describe_network(dataclasses.replace(records, training=training)))
    assert config["attainable_return"] == bound


def test_an_evaluation_of_steps_of_another_length_than_the_build_is_refused(clean):
    sources = read_sources(clean)
    for hours, days, expected in ((4, 90, []), (None, None, []), (2, 90, ["steps"]), (4, 28, ["steps"])):
        timed = sources.records.evaluation.model_copy(update={"step_hours": hours, "mortality_days": days})
        records = dataclasses.replace(sources.records, evaluation=timed)
        found = list(disagreements(dataclasses.replace(sources, records=records)))
        assert [text.split()[4] for text in found] == expected
        assert (records.drawn.step_hours, records.drawn.mortality_days) == (4, 90)


def test_package_and_example_patient_follow_the_length_of_a_step(clean):
    records = read_records(clean)
    settings = records.build.settings.model_copy(update={"step_hours": 2})
    records = dataclasses.replace(records, build=records.build.model_copy(update={"settings": settings}))
    config = json.loads(describe_network(records))
    facts = {fact["name"]: fact for fact in json.loads(describe_extractor(records))["features"]}
    assert config["decision_interval_hours"] == 2
    assert {"urine_output_2h", "urine_output_2h_missing"} <= set(config["state_names"])
    assert not [name for name in config["state_names"] if "4h" in name]
    assert (facts["urine_output_2h"]["low"], facts["urine_output_2h"]["high"]) == (0, 40000)
    assert example_patient(2)["urine_output_2h"] == example_patient()["urine_output_4h"] / 2
    assert extractor_of(records)(example_patient(2))["states"].shape == (1, 62)
