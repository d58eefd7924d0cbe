"""Hundreds of wrong inputs of every kind: each is refused in one message that names the file, none is a traceback."""

import json
import os
import shutil
from collections import Counter

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sepsis_cql.checkpoints.hub_package import load_package
from sepsis_cql.checkpoints.original_pt import read_original_checkpoint
from sepsis_cql.common.errors import SepsisCQLError
from sepsis_cql.common.provenance import ROOT
from sepsis_cql.common.strict import SHIPPED, load_settings, read_record
from sepsis_cql.evaluation.policies.load import load_policy
from sepsis_cql.evaluation.record import load_evaluation
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.publishing.card import check_card
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.replay.interop.exports import write_original
from sepsis_cql.replay.mimic.checks import check_rows
from sepsis_cql.replay.mimic.raw_files import parquet
from sepsis_cql.replay.mimic.reading import check_columns, open_table
from sepsis_cql.replay.mimic.sources.folder import FileTable
from sepsis_cql.replay.mimic.tables import _connect
from sepsis_cql.replay.records import Simulation
from sepsis_cql.replay.settings import Features, Fluids, ReplaySettings
from sepsis_cql.synthetic.settings import SyntheticSettings
from sepsis_cql.tests.replay.made_up import SIMULATION, TABLES, MadeUpMimic, three_splits
from sepsis_cql.tests.training.made_up import RUNTIME, make_settings, make_transitions
from sepsis_cql.training.checkpoint import KEY, load_checkpoint
from sepsis_cql.training.learners.registry import load_training_settings
from sepsis_cql.training.outputs import read_run_record
from sepsis_cql.training.run import train_from_replay
from sepsis_cql.training.settings import RuntimeSettings
from sepsis_cql.training.sweep.ledger import HEAD, LEDGER, open_test_split, read_ledger
from sepsis_cql.training.sweep.protocol import SweepSettings
from sepsis_cql.training.sweep.selection import Evidence, freeze_selection, load_selection

from .mutations import DAMAGED_BYTES, DAMAGED_TEXT, damage_columns, damage_document, repeat_key

TRIED: Counter[str] = Counter()
MAY_BE_RIGHT = (
    "without ",
    "NoneType",
)  # a field with a default may be left out, an optional one may be nothing
CELL = "a cell"
LONG = 3000  # characters of settings, from which reading them takes a while


def wrongly_taken(kind, door, file, mutants, *, may_be_right=()):
    """Write each mutant into `file`, open it, and return what was neither refused nor allowed to be right."""
    found = []
    for name, content in mutants.items():
        TRIED[kind] += 1
        file.write_bytes(content)
        try:
            door()
        except SepsisCQLError as error:
            text = str(error)
            if file.name not in text or len(text) > 3000 or CELL in text:
                found.append((name, text[:300]))
        except Exception as error:
            found.append((name, f"{type(error).__name__}: {str(error)[:200]}"))
        else:
            if not any(word in name for word in may_be_right):
                found.append((name, "taken"))
    print(kind, file.name, *found, sep="\n  ")
    return found


def documents_of(text):
    """Mutants of a JSON document: damaged bytes, a repeated key, and wrong fields evenly over the whole of it."""
    fields = {name: json.dumps(value).encode() for name, value in damage_document(json.loads(text)).items()}
    broken = {name: damage(text.encode()) for name, damage in DAMAGED_TEXT.items()}
    return fields | broken | {"a key twice": repeat_key(text).encode()}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A replay of made-up tables, a run of two epochs on it, and its selection."""
    from sepsis_cql.replay.build import build_replay
    from sepsis_cql.replay.settings import load_build_settings

    place = tmp_path_factory.mktemp("run")
    mimic = MadeUpMimic()
    for subject_id in three_splits():
        mimic.septic_stay(subject_id)
    (place / "mimic").mkdir()
    build_replay(mimic.write(place / "mimic"), place / "replay", load_build_settings())
    settings = make_settings(epochs=2)
    train_from_replay(open_replay(place / "replay"), place / "training", settings, RUNTIME)
    freeze_selection(place / "training", Evidence(rule="made up"), place / "selection.json")
    return place


@pytest.fixture
def copy(run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    return tmp_path / "copy"


RECORDS = {
    "replay/provenance.json": lambda place: open_replay(place / "replay").provenance,
    "replay/statistics.json": lambda place: open_replay(place / "replay").statistics,
    "training/training.json": lambda place: read_run_record(place / "training"),
    "training/package/config.json": lambda place: load_package(place / "training" / "package"),
    "selection.json": lambda place: load_selection(place / "selection.json"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_damaged_records_of_a_run_are_refused(copy, name):
    mutants = documents_of((copy / name).read_text())
    door = lambda: RECORDS[name](copy)  # noqa: E731
    may = (*MAY_BE_RIGHT, "custom_pipelines", "auto_map")  # for the Hub's own loader, which is not used here
    assert wrongly_taken("records", door, copy / name, mutants, may_be_right=may) == []


def test_damaged_simulations_and_evaluations_are_refused(tmp_path):
    (tmp_path / "SYNTHETIC.json").write_text(json.dumps(SIMULATION))
    shutil.copyfile(ROOT / "model/evidence/evaluation.json", tmp_path / "evaluation.json")
    doors = {
        "SYNTHETIC.json": lambda: read_record(Simulation, tmp_path / "SYNTHETIC.json", expected="a mark"),
        "evaluation.json": lambda: load_evaluation(tmp_path),
    }
    for name, door in doors.items():
        mutants = documents_of((tmp_path / name).read_text())
        may = (*MAY_BE_RIGHT, "settings")  # of a simulation, which another model checks
        assert wrongly_taken("records", door, tmp_path / name, mutants, may_be_right=may) == []


@pytest.mark.parametrize("name", ["build_report", "training", "evaluation"])
def test_damaged_evidence_renders_no_card(tmp_path, name):
    shutil.copytree(ROOT / "model" / "evidence", tmp_path / "model" / "evidence")
    shutil.copyfile(ROOT / "README.md", tmp_path / "README.md")
    shutil.copyfile(ROOT / "config.json", tmp_path / "config.json")
    file = tmp_path / "model" / "evidence" / f"{name}.json"
    assert wrongly_taken("evidence", lambda: check_card(tmp_path), file, documents_of(file.read_text())) == []


SETTINGS = {
    "synthetic": lambda file: load_settings(SyntheticSettings, file),
    "evaluation": lambda file: load_settings(EvaluationSettings, file),
    "replay": lambda file: load_settings(ReplaySettings, file),
    "features": lambda file: load_settings(Features, file),
    "fluids": lambda file: load_settings(Fluids, file),
    "sweep": lambda file: load_settings(SweepSettings, file),
    "runtime.cpu": lambda file: load_settings(RuntimeSettings, file),
    "cql": load_training_settings,
    "behavior_cloning": load_training_settings,
}


@pytest.mark.parametrize("name", SETTINGS)
def test_wrong_settings_are_refused(tmp_path, name):
    file = tmp_path / "mine.yaml"
    text = (SHIPPED / f"{name}.yaml").read_text()
    wrong = damage_document(yaml.safe_load(text), most=10 if len(text) < LONG else 3)
    mutants = {key: yaml.safe_dump(value).encode() for key, value in wrong.items()}
    mutants |= {
        key: damage(text.encode())
        for key, damage in DAMAGED_TEXT.items()
        if not key.startswith("cut") and len(text) < LONG
    }
    first = next(iter(yaml.safe_load(text)))
    mutants |= {
        "a key twice": f"{text}\n{first}: 1\n".encode(),
        "an alias": f"{text}\nx: &a 1\ny: *a\n".encode(),
        "a tag": f"{text}\nx: !!python/object/apply:os.system ['true']\n".encode(),
    }
    door = lambda: SETTINGS[name](file)  # noqa: E731
    may = (*MAY_BE_RIGHT, "grid.")  # each run of a grid is checked by its learner
    assert wrongly_taken("settings", door, file, mutants, may_be_right=may) == []


def test_damaged_weights_are_refused(copy):
    file = copy / "training" / "package" / "model.safetensors"
    tensors, data = load_file(file), file.read_bytes()
    mutants = {name: damage(data) for name, damage in DAMAGED_BYTES.items()}
    mutants |= {
        "a header of 4 GB": (2**32).to_bytes(8, "little") + data[8:],
        "a header of no length": (0).to_bytes(8, "little") + data[8:],
        "a nested header": (100_000).to_bytes(8, "little") + b"[" * 100_000,
        "one byte more": data + b"x",
    }
    from safetensors.torch import save

    for name, tensor in tensors.items():
        mutants |= {
            f"without {name}": save({key: value for key, value in tensors.items() if key != name}),
            f"NaN in {name}": save(tensors | {name: torch.full_like(tensor, torch.nan)}),
            f"{name} in another type": save(tensors | {name: tensor.double()}),
            f"{name} in another shape": save(tensors | {name: tensor[None].clone()}),
        }
    mutants["a tensor more"] = save(tensors | {"more": torch.ones(1)})
    door = lambda: load_package(copy / "training" / "package")  # noqa: E731
    assert wrongly_taken("packages", door, file, mutants) == []


def test_damaged_checkpoints_are_refused(copy):
    place = copy / "training" / "checkpoints"
    file = sorted(place.glob("*.safetensors"))[-1]
    with safe_open(file, framework="pt") as stream:
        facts = json.loads(stream.metadata()[KEY])
    tensors, data = load_file(file), file.read_bytes()
    mutants = {name: damage(data) for name, damage in DAMAGED_BYTES.items()}
    texts = {name: damage(json.dumps(facts).encode()) for name, damage in DAMAGED_TEXT.items()}
    texts |= {name: json.dumps(value).encode() for name, value in damage_document(facts).items()}
    for name, text in texts.items():
        save_file(tensors, file, metadata={KEY: text.decode(errors="replace")})
        mutants[f"facts: {name}"] = file.read_bytes()
    door = lambda: load_checkpoint(file, facts["identity"])  # noqa: E731
    assert wrongly_taken("checkpoints", door, file, mutants) == []


def test_damaged_original_checkpoints_are_refused(copy):
    (file,) = (copy / "training" / "model").glob("*.pt")
    mutants = {name: damage(file.read_bytes()) for name, damage in DAMAGED_BYTES.items()}
    whole, good = torch.load(file, weights_only=True), file.read_bytes()
    for name, values in damage_document({key: whole[key] for key in ("epoch", "global_step")}).items():
        torch.save(whole | {"epoch": None, "global_step": None} | values, file)
        mutants[name] = file.read_bytes()
    door = lambda: read_original_checkpoint(file)  # noqa: E731
    assert wrongly_taken("checkpoints", door, file, mutants) == []
    file.write_bytes(good)
    manifest = file.with_name(f"{file.stem}_manifest.json")
    mutants = {name: damage(manifest.read_bytes()) for name, damage in DAMAGED_TEXT.items()}
    assert wrongly_taken("checkpoints", door, manifest, mutants) == []


def test_wrong_columns_of_a_replay_file_are_refused(tmp_path):
    file = tmp_path / "replay.parquet"
    write_original(make_transitions(n_states=2), file)
    table, data = pq.read_table(file), file.read_bytes()
    mutants = {name: damage(data) for name, damage in DAMAGED_BYTES.items()}
    for name, wrong in damage_columns(table).items():
        pq.write_table(wrong, file)
        mutants[name] = file.read_bytes()
    door = lambda: open_replay(file).transitions()  # noqa: E731
    assert wrongly_taken("replays", door, file, mutants) == []


def test_wrong_columns_of_a_replay_directory_are_refused(copy):
    file = copy / "replay" / "train.parquet"
    table, data = pq.read_table(file), file.read_bytes()
    used = {
        "subject_id",
        "stay_id",
        "step_index",
        "state",
        "action",
        "reward_sparse",
        "terminal",
        "next_state",
    }
    mutants = {name: damage(data) for name, damage in DAMAGED_BYTES.items()}
    mutated = damage_columns(table)
    mutated["no names of states"] = table.replace_schema_metadata({})
    mutated["names of fewer states"] = table.replace_schema_metadata({b"state_names": b"one,two"})
    mutated["steps of a stay exchanged"] = _exchange(table, "state")
    mutated["following states exchanged"] = _exchange(table, "next_state")
    for name, wrong in mutated.items():
        if (
            any(name.startswith((f"without {column}", column)) for column in used)
            or " of " in name
            or "exchanged" in name
        ):
            pq.write_table(wrong, file)
            mutants[name] = file.read_bytes()
    door = lambda: open_replay(copy / "replay").transitions("train")  # noqa: E731
    assert wrongly_taken("replays", door, file, mutants) == []


def _exchange(table, name):
    """The first two rows of a column in each other's place."""
    order = [1, 0, *range(2, table.num_rows)]
    return table.set_column(table.column_names.index(name), name, table[name].take(order))


WRONG_CELLS = {
    "INTEGER": ("1.5", "99999999999", "one"),
    "SMALLINT": ("2100.5", "70000"),
    "FLOAT": ("inf", "nan"),
    "DOUBLE": ("-inf", "one"),
    "DATE": ("0001-01-01", "2301-01-01", "noon"),
    "TIMESTAMP": ("290000-01-01 00:00:00", "2100-01-01 08:00:00+05:00", "-infinity"),
}
RIGHT_CELLS = {"DATE": "2150-01-02", "TIMESTAMP": "2150-01-01 08:00:00", "VARCHAR": "text"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    connection = _connect(tmp_path_factory.mktemp("engine"), None, None)
    yield connection
    connection.close()


@pytest.mark.parametrize("name", TABLES.tables)
def test_wrong_cells_of_a_table_are_refused_without_the_cell(engine, tmp_path, name):
    table, file = TABLES.tables[name], tmp_path / f"{name}.csv"
    right = {column: RIGHT_CELLS.get(kind, "7") for column, kind in table.columns.items()}
    right |= {"itemid": str(table.itemids[0])} if table.items else {}
    typed = {
        key: kind for key, kind in table.columns.items() if not (table.items and key == "itemid")
    }  # others go
    cases = [(column, cell) for column, kind in typed.items() for cell in WRONG_CELLS.get(kind, ())]
    texts = {f"{column}: {cell}": table_of(right | {column: cell}) for column, cell in cases}
    texts |= {
        f"without {name}": table_of({key: right[key] for key in right if key != name}) for name in right
    }
    texts |= {"no row": ",".join(right) + "\n", "empty": "", "a row too short": table_of(right) + "7\n"}
    if key := TABLES.keys.get(name):
        texts |= {"the same row twice": table_of(right) + table_of(right).split("\n")[1] + "\n"}
        texts |= {"no key": table_of(right | {key: ""})}

    def door():
        for made in tmp_path.glob("made*"):
            made.unlink()
        source = FileTable((file,))
        header = source.header(engine)
        check_columns(source, header, table)
        open_table(engine, source, header, table, tmp_path / "made", tmp_path / "made.parquet")
        made = parquet(engine, tmp_path / "made.parquet")
        engine.execute(f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM {made}")
        check_rows(engine, name, source.where, TABLES)

    mutants = {key: text.encode() for key, text in texts.items()}
    assert wrongly_taken("tables", door, file, mutants) == []
    file.write_text(table_of(right))
    door()


def table_of(row):
    return f"{','.join(row)}\n{','.join(row.values())}\n"


MODULES = {
    "no Python": "def act(:\n",
    "raises": "1 / 0\n",
    "leaves": "raise SystemExit(0)\n",
    "lacks it": "def other(states):\n    return states\n",
    "no function": "act = 7\n",
    "a missing import": "import no_such_module_at_all\n",
    "no text": "\0",
}


def test_modules_that_hold_no_policy_are_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for number, (name, source) in enumerate(MODULES.items()):
        TRIED["policies"] += 1
        (tmp_path / f"bad_policy_{number}.py").write_text(source)
        with pytest.raises(SepsisCQLError, match=f"bad_policy_{number}"):
            pytest.fail(f"{name} was taken: {load_policy(f'bad_policy_{number}:act')}")


@pytest.mark.parametrize(
    "spec", ["", "x", "a/b", "a/b@", ":act", "math:", "math:no_such", "x.pt", "x.d3", "../x", "a:b:c", "\n"]
)
def test_specifications_of_no_policy_are_refused(command, inputs, tmp_path, spec):
    replay = inputs["evaluate"][0][1]
    code, printed = command("evaluate", "--policy", spec, "--replay", replay, "--out", tmp_path / "out")
    assert code == 2 and "Traceback" not in printed and "xpected" in printed


@pytest.mark.parametrize("name", [LEDGER, HEAD])
def test_damaged_ledgers_are_refused(tmp_path, name):
    open_test_split(tmp_path, "a" * 64, "c" * 64)
    file = tmp_path / name
    mutants = {key: damage(file.read_bytes()) for key, damage in DAMAGED_TEXT.items()}
    if name == LEDGER:
        entry = json.loads(file.read_text())
        wrong = damage_document(entry)
        mutants |= {
            key: (json.dumps(value, separators=(",", ":")) + "\n").encode() for key, value in wrong.items()
        }
    found = wrongly_taken(
        "ledgers", lambda: read_ledger(tmp_path), file, mutants, may_be_right=("empty",) * (name == HEAD)
    )
    assert [row for row in found if "test_splits" not in row[1]] == []


@pytest.mark.parametrize(
    ("stage", "more"),
    [
        ("synthesize", ["--patients", "-1"]),
        ("synthesize", ["--seed", "x"]),
        ("train", ["--config", "nothing"]),
        ("train", ["--set", "training.alpha=.nan"]),
        ("train", ["--set", "training.alpha"]),
        ("train", ["--set", "training.no_such=1"]),
        ("train", ["--set", "wrong.alpha=1"]),
        ("train", ["--set", "training.epochs=[1, 2]"]),
        ("train", ["--set", "training.epochs=" + "[" * 5000]),
        ("train", ["--set", "training.epochs=" + "9" * 5000]),
        ("train", ["--runtime", "cql"]),
        ("evaluate", ["--split", "train"]),
        ("evaluate", ["--protocol", "none"]),
        ("evaluate", ["--selection", "nowhere.json"]),
        ("evaluate", ["--set", "evaluation.resamples=-1"]),
        ("evaluate", ["--set", "evaluation.resamples=1e400"]),
        ("build", ["--memory-limit", "much"]),
        ("build", ["--features", "nowhere.yaml"]),
        ("build", ["--set", "replay.step_hours=0"]),
        ("export", ["--format", "zip"]),
    ],
)
def test_wrong_options_are_refused(command, inputs, tmp_path, stage, more):
    code, printed = command(stage, *inputs[stage][0], "--out", tmp_path / "out", *more)
    assert code == 2 and "Traceback" not in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("special", ["/dev/zero", "/dev/null", "a pipe", "a directory", "a loop"])
@pytest.mark.parametrize("name", ["mine.yaml", "selection.json", "replay.parquet", "policy.pt"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(command, inputs, tmp_path, special, name):
    file = tmp_path / name
    if special == "a pipe":
        os.mkfifo(file)
    elif special == "a directory":
        file.mkdir()
    else:
        file.symlink_to(file if special == "a loop" else special)
    arguments = {
        "mine.yaml": ["synthesize", "--config", file],
        "selection.json": ["evaluate", *inputs["evaluate"][0], "--split", "test", "--selection", file],
        "replay.parquet": ["train", "--replay", file],
        "policy.pt": ["import-checkpoint", file],
    }[name]
    code, printed = command(*arguments, "--out", tmp_path / "out")
    assert code == 2 and "Traceback" not in printed and name in printed
    assert not (tmp_path / "out").exists()


def test_campaign_was_large():
    if len(TRIED) > 5:
        print(dict(TRIED))
        assert sum(TRIED.values()) >= 300
