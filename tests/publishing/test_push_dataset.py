"""A simulated replay goes to the Hub as a dataset, made anew; a replay of patients does not."""

import io
import json
import shutil

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from sepsis_cql.commands.app import app
from sepsis_cql.common.errors import PublishingError
from sepsis_cql.publishing.dataset import REASONS, make_dataset
from sepsis_cql.publishing.hub import push
from sepsis_cql.replay.build import build_replay
from sepsis_cql.replay.settings import load_build_settings
from sepsis_cql.synthetic.rendering.render import synthesize
from sepsis_cql.synthetic.settings import load_synthetic_settings

NAME = "someone/synthetic-replay"
PLANTED = b"a row of a patient"


@pytest.fixture(scope="module")
def replay(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    synthesize(folder / "tables", 60, 3, load_synthetic_settings())
    build_replay(folder / "tables", folder / "replay", load_build_settings())
    return folder / "replay"


@pytest.fixture(scope="module")
def dataset(replay, tmp_path_factory):
    """Made of a directory whose rows somebody replaced and to which they added a file."""
    copy = tmp_path_factory.mktemp("planted") / "replay"
    shutil.copytree(replay, copy)
    for name in ("train.parquet", "stays.parquet", "README.md", "statistics.json", "notes.txt"):
        (copy / name).write_bytes(PLANTED)
    return make_dataset(copy)


def change_provenance(replay, target, **changes):
    target.mkdir()
    provenance = json.loads((replay / "provenance.json").read_text()) | changes
    (target / "provenance.json").write_text(json.dumps(provenance))
    return target


def test_what_is_published_is_simulated_anew_whatever_lies_in_the_directory(dataset, replay):
    assert set(dataset.files) == set(REASONS)
    assert not any(PLANTED in content for content in dataset.files.values())
    for name in ("train.parquet", "validation.parquet", "test.parquet", "stays.parquet", "statistics.json"):
        assert dataset.files[name] == (replay / name).read_bytes()


def test_it_is_pushed_as_a_dataset_in_one_commit_and_tagged(dataset, hub, api):
    published = push(dataset, NAME, tag="v1", api=api)
    repository = hub.repositories[f"datasets/{NAME}"]
    assert list(hub.repositories) == [f"datasets/{NAME}"]
    assert repository.commits[published.commit].items() >= dataset.files.items()
    assert repository.tags == {"v1": published.commit} and len(repository.history) == 2
    assert not push(dataset, NAME, tag="v1", api=api).is_new


def test_croissant_validates_and_reads_the_rows(dataset, tmp_path):
    mlcroissant = pytest.importorskip("mlcroissant")
    dataset.write(tmp_path)
    described = mlcroissant.Dataset(jsonld=tmp_path / "croissant.json")
    assert described.metadata.ctx.issues.errors == set()
    rows = pq.read_table(io.BytesIO(dataset.files["validation.parquet"]))
    assert {field.name for field in described.metadata.record_sets[1].fields} == set(rows.column_names)
    record = next(iter(described.records("validation")))
    assert record["validation/action"] == rows["action"][0].as_py()
    assert len(record["validation/state"]) == 62


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"source": {"name": "mimic-iv", "version": "3.1"}, "synthetic": None},
            "holds rows of mimic-iv; only a replay of",
        ),
        (
            {"source": {"name": "synthetic", "version": "1"}, "synthetic": None},
            "only a replay of simulated tables",
        ),
        ({"features": {"features": {}}}, "features or fluids of its own"),
    ],
    ids=["credentialed", "no simulation", "own features"],
)
def test_a_replay_that_is_not_simulated_from_shipped_settings_is_refused(
    replay, tmp_path, hub, changes, message
):
    directory = change_provenance(replay, tmp_path / "replay", **changes)
    with pytest.raises(PublishingError, match=message):
        CliRunner().invoke(app, ["push", NAME, "--replay", str(directory)], catch_exceptions=False)
    assert hub.requests == []


def test_a_replay_of_the_demo_is_refused(demo_replay):
    with pytest.raises(PublishingError, match="holds rows of mimic-iv-demo"):
        make_dataset(demo_replay)


def test_a_fingerprint_that_the_simulation_does_not_give_is_refused(replay, tmp_path):
    with pytest.raises(PublishingError, match="Another version built it"):
        make_dataset(change_provenance(replay, tmp_path / "replay", fingerprint="0" * 64))
