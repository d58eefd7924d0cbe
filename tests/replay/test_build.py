import json
import shutil
import stat

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from sepsis_cql.commands import app as cli
from sepsis_cql.common.errors import CohortError, SepsisCQLError
from sepsis_cql.replay.build import build_replay
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.replay.mimic.tables import open_mimic
from sepsis_cql.replay.rows.splits import SPLITS

from .made_up import (
    READ,
    SIMULATION,
    MadeUpMimic,
    at,
    build,
    build_settings,
    read_steps,
    six_septic_patients,
    subject_ids,
)

FILES = {
    *(f"{split}.parquet" for split in SPLITS),
    *("stays.parquet", "statistics.json", "provenance.json", "attrition.csv"),
    *("attrition.png", "ages.png", "actions.png", "missing.png"),
    *(
        "build_report.json",
        "build_report.md",
        "DATA_USE_NOTICE.txt",
        "README.md",
        ".private-replay",
        ".sepsis-cql",
    ),
}


def read(replay, name):
    return json.loads((replay / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A replay of the made-up tables, by the shipped settings; tests only read it."""
    folder = tmp_path_factory.mktemp("built")
    return folder / "replay", build(six_septic_patients(), folder)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """A replay of tables marked as simulated, with weights in a wrong unit, by the published alignment."""
    folder, mimic = tmp_path_factory.mktemp("simulated"), six_septic_patients()
    for row in mimic.rows["icustays"]:
        mimic.chart(row["stay_id"], 226512, 250, -1)  # pounds entered as kilograms
    (folder / "mimic").mkdir()
    (folder / "mimic" / "SYNTHETIC.json").write_text(json.dumps(SIMULATION))
    build(mimic, folder, alignment="concurrent")
    return folder / "replay"


def run_cli(monkeypatch, *arguments):
    """Exit code of the command."""
    monkeypatch.setattr("sys.argv", ["sepsis-cql", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return exit_.value.code


def test_a_replay_directory_is_complete_private_and_marked(demo_replay):
    assert {path.name for path in demo_replay.iterdir()} == FILES
    assert stat.S_IMODE(demo_replay.stat().st_mode) == 0o700
    assert "Data Use Agreement" in (demo_replay / "DATA_USE_NOTICE.txt").read_text()


def test_the_demo_has_the_counts_of_its_official_sepsis3_stays(demo_replay):
    cohort = read(demo_replay, "build_report")["cohort"]
    assert (cohort["stays"], cohort["septic_stays"], cohort["episodes"]) == (140, 62, 47)
    assert cohort["transitions"] == sum(len(open_replay(demo_replay).transitions(split)) for split in SPLITS)


def test_columns_have_the_agreed_types(demo_replay):
    schema = pq.read_schema(demo_replay / "train.parquet")
    state = pa.list_(pa.float32(), 62)
    assert dict(zip(schema.names, schema.types, strict=True)) == {
        "subject_id": pa.int64(),
        "hadm_id": pa.int64(),
        "stay_id": pa.int64(),
        "step_index": pa.int32(),
        "step_start": pa.timestamp("us"),
        "state": state,
        "action": pa.int64(),
        "reward_sparse": pa.float32(),
        "reward_sofa_shaped": pa.float32(),
        "terminal": pa.bool_(),
        "next_state": state,
        "norepinephrine_equivalent": pa.float32(),
        "fluid_volume": pa.float32(),
        "sofa": pa.int32(),
        "is_ventilated": pa.bool_(),
        "vasopressor_maximum": pa.float32(),
        "vasopressor_mean": pa.float32(),
        "carrier_volume": pa.float32(),
        "maintenance_volume": pa.float32(),
        "elsewhere_volume": pa.float32(),
        "window_hours": pa.float32(),
        "code_status": pa.string(),
        "value_age": pa.list_(pa.float32(), 32),
    }
    assert len(schema.metadata[b"state_names"].decode().split(",")) == 62


def test_the_same_tables_give_the_same_bytes_and_figures_are_drawn_of_few_patients_too(
    built, mimic, tmp_path, rendering
):
    with rendering():  # and no table is kept of an earlier build
        build_replay(mimic.write(tmp_path / "mimic"), tmp_path / "replay", build_settings())
    for name in FILES:
        first, second = ((folder / name).read_bytes() for folder in (built[0], tmp_path / "replay"))
        assert len(second) > 5_000 if name.endswith(".png") else first == second, name


def test_another_setting_is_another_fingerprint(built, mimic, tmp_path):
    other = build(mimic, tmp_path, mortality_days=30)
    assert built[1].fingerprint != other.fingerprint
    assert read(tmp_path / "replay", "provenance")["settings"]["mortality_days"] == 30
    assert read(tmp_path / "replay", "statistics")["replay_fingerprint"] == other.fingerprint


def test_synthetic_tables_say_so_in_the_provenance(simulated):
    provenance = read(simulated, "provenance")
    assert provenance["source"] == {"name": "synthetic", "version": "1"}
    assert provenance["synthetic"] == SIMULATION


def test_real_tables_do_not_claim_to_be_synthetic_or_the_demo(built):
    provenance = read(built[0], "provenance")
    assert provenance["source"]["name"] == "mimic-iv"
    assert provenance["synthetic"] is None


def test_the_stays_file_describes_every_episode(demo_replay):
    stays = pd.read_parquet(demo_replay / "stays.parquet")
    counts = read_steps(demo_replay).groupby("stay_id")["step_index"].count()
    assert stays.set_index("stay_id")["n_steps"].to_dict() == counts.to_dict()
    assert (stays["age"] >= 18).all() and (stays["sofa_at_onset"] >= 2).all()
    assert set(stays["split"]) == set(SPLITS)


def test_a_report_compares_tables_with_the_published_counts(demo_replay, built):
    demo = read(demo_replay, "build_report")
    assert demo["tables"]["chartevents"] == {"rows": 668862, "published": 668862}
    assert not any("rows" in warning for warning in demo["warnings"])
    extract = read(built[0], "build_report")
    assert extract["tables"]["icustays"] == {"rows": 6, "published": 73181}
    assert "icustays has 6 rows; MIMIC-IV 2.2 has 73,181" in extract["warnings"]


def test_a_report_counts_every_step_under_its_action(demo_replay):
    report = read(demo_replay, "build_report")
    for split in SPLITS:
        counts = report["action_grid"]["counts"][split]
        assert sum(map(sum, counts)) == report["splits"][split]["transitions"]
        actions = open_replay(demo_replay).transitions(split).actions
        assert counts[2][3] == (actions == 13).sum()


def test_a_report_warns_of_a_wrong_unit(simulated, built):
    warning = "median weight_kg is 250, expected 55 to 110: wrong unit or item?"
    assert warning in read(simulated, "build_report")["warnings"]
    assert warning not in read(built[0], "build_report")["warnings"]


def test_the_published_alignment_is_reported_as_a_comparison_only(simulated, built):
    for replay, is_told in ((simulated, True), (built[0], False)):
        warnings = read(replay, "build_report")["warnings"]
        assert any("for comparison only" in warning for warning in warnings) is is_told


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: [row.update(anchor_age=12) for row in m.rows["patients"]], "`adult`"),
        (lambda m: [row.update(outtime=at(3)) for row in m.rows["icustays"]], "`complete_step`"),
        (lambda m: [row.update(drug="Paracetamol") for row in m.rows["prescriptions"]], "`sepsis3`"),
        (
            lambda m: [row.update(itemid=221653) for row in m.rows["inputevents"] if row["itemid"] == 221906],
            "training steps have any vasopressor",
        ),
    ],
    ids=["children", "no time in the ICU", "no antibiotic", "no vasopressor"],
)
def test_an_unusable_cohort_is_an_error_and_leaves_nothing_behind(mimic, tmp_path, spoil, message):
    spoil(mimic)
    with pytest.raises(CohortError, match=message):
        build(mimic, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mimic"]


def test_a_split_without_patients_ends_the_command_with_its_reason(tmp_path, monkeypatch, capsys):
    mimic = MadeUpMimic()
    for subject_id in subject_ids("train", 3):
        mimic.septic_stay(subject_id)
    root = mimic.write(tmp_path / "mimic")
    assert run_cli(monkeypatch, "build", "--mimic", root, "--out", tmp_path / "out") == 2
    assert "Split validation, test has no patient; 3 patients" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_it_found_and_what_it_excluded(tmp_path, monkeypatch, capsys, mimic):
    mimic.stay(3000)
    root = mimic.write(tmp_path / "mimic")
    assert (
        run_cli(monkeypatch, "build", "--mimic", root, "--out", tmp_path / "out", "--set", "replay.seed=42")
        == 0
    )
    printed = capsys.readouterr().out
    assert "Found 7 ICU stays, 6 of them septic; kept 6 episodes with 72 transitions and 0 deaths." in printed
    assert "1 stays excluded: not Sepsis-3" in printed
    for stage in ("tables", "concepts", "cohort", "trajectories", "statistics", "report"):
        assert f"✓ {stage}: " in printed


def test_an_existing_directory_is_replaced_only_by_force(built, mimic, tmp_path, monkeypatch, capsys):
    root = mimic.write(tmp_path / "mimic")
    shutil.copytree(built[0], tmp_path / "out")
    (tmp_path / "out" / "attrition.csv").write_text("of an earlier build")
    arguments = ("build", "--mimic", root, "--out", tmp_path / "out", "--cache", READ.name)
    assert run_cli(monkeypatch, *arguments) == 2
    assert "Use --force" in capsys.readouterr().err
    assert run_cli(monkeypatch, *arguments, "--force") == 0
    assert (tmp_path / "out" / "attrition.csv").read_bytes() == (built[0] / "attrition.csv").read_bytes()


def test_an_unknown_option_value_names_the_setting(mimic, tmp_path, monkeypatch, capsys):
    root = mimic.write(tmp_path / "mimic")
    arguments = ("build", "--mimic", root, "--out", tmp_path / "out", "--set", "replay.onset_rule=culture")
    assert run_cli(monkeypatch, *arguments) == 2
    assert "onset_rule" in capsys.readouterr().err


def test_a_build_reads_the_tables_that_are_cached(built, mimic, tmp_path, monkeypatch):
    root = mimic.write(tmp_path / "mimic")
    arguments = (
        "build",
        "--mimic",
        root,
        "--cache",
        tmp_path / "cache",
        "--threads",
        "1",
        "--memory-limit",
        "1GB",
    )
    open_mimic(root, cache=tmp_path / "cache", items=build_settings().items).close()
    monkeypatch.setattr(
        "sepsis_cql.replay.mimic.reading.convert", lambda *_: pytest.fail("read a raw file again")
    )
    assert run_cli(monkeypatch, *arguments, "--out", tmp_path / "b") == 0
    assert (tmp_path / "b" / "train.parquet").read_bytes() == (built[0] / "train.parquet").read_bytes()


def test_transitions_refuse_a_replay_with_a_broken_episode(built, tmp_path):
    shutil.copytree(built[0], tmp_path / "replay")
    file = tmp_path / "replay" / "train.parquet"
    pq.write_table(pq.read_table(file).slice(1), file)
    with pytest.raises(SepsisCQLError, match="step_index that does not count"):
        open_replay(tmp_path / "replay").transitions("train")


def test_how_patients_are_described_changes_the_report_alone(mimic_demo, demo_cache, demo_replay, tmp_path):
    command = [
        "build",
        "--mimic",
        str(mimic_demo),
        "--cache",
        str(demo_cache),
        "--out",
        str(tmp_path / "replay"),
    ]
    assert CliRunner().invoke(cli.app, [*command, "--describe", "apache"]).exit_code != 0
    result = CliRunner().invoke(cli.app, [*command, "--describe", "charlson", "--describe", "oasis"])
    assert result.exit_code == 0, result.output
    for name in ("train.parquet", "stays.parquet", "provenance.json", "statistics.json"):
        assert (tmp_path / "replay" / name).read_bytes() == (demo_replay / name).read_bytes()
    page = (tmp_path / "replay/build_report.md").read_text()
    assert "| charlson | " in page and "| diagnoses_icd | 4,506 | 4,506 |" in page
    assert "| charlson | " not in (demo_replay / "build_report.md").read_text()
