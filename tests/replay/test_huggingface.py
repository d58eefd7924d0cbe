import shutil
import stat
from copy import deepcopy

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from sepsis_cql.common.errors import ReplayError
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.replay.interop import huggingface
from sepsis_cql.replay.interop.huggingface import load_replay, replay_builder, view_column
from sepsis_cql.replay.rows.splits import SPLITS

from .made_up import build, six_septic_patients


@pytest.fixture
def root(mimic, tmp_path):
    return mimic.write(tmp_path / "mimic")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Made-up tables with their `replay`, and what the builder prepared of them in `cache`; tests only read it."""
    folder = tmp_path_factory.mktemp("built")
    build(six_septic_patients(), folder)
    return folder, prepare(folder / "mimic", folder / "cache")


def prepare(root, cache, **options):
    builder = replay_builder(root, cache, **options)
    builder.download_and_prepare()
    return builder


def assert_same_rows(left, right):
    left, right = (dataset.with_format("numpy")[:] for dataset in (left, right))
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name])


def test_a_replay_directory_loads_typed_and_whole(demo_replay):
    splits = load_replay(demo_replay, "sofa_shaped")
    assert list(splits) == list(SPLITS)
    features = splits["train"].features
    assert features["state"].length == 62
    assert features["action"].num_classes == 25
    for split in SPLITS:
        arrays = open_replay(demo_replay).transitions(split, "sofa_shaped")
        loaded = splits[split].with_format("numpy")[:]
        np.testing.assert_array_equal(loaded["state"], arrays.states)
        np.testing.assert_array_equal(loaded["action"], arrays.actions)
        np.testing.assert_array_equal(loaded["reward"], arrays.rewards.astype(np.float32))


def test_every_column_fits_torch_and_states_reach_it_without_a_copy(demo_replay):
    train = load_replay(demo_replay)["train"]
    batch = train.with_format("torch")[:8]
    assert all(isinstance(column, torch.Tensor) for column in batch.values())
    values = view_column(train, "state")
    states = torch.from_dlpack(values).view(len(train), -1)
    assert states.data_ptr() == values.buffers()[1].address
    np.testing.assert_array_equal(states[:8].numpy(), batch["state"].numpy())
    assert torch.from_dlpack(view_column(train, "action")).dtype == torch.int64


def test_a_column_of_selected_rows_is_no_view(demo_replay):
    with pytest.raises(ReplayError, match="selected, shuffled"):
        view_column(load_replay(demo_replay)["train"].shuffle(seed=1), "state")


def test_a_stream_gives_the_rows_row_group_by_row_group(demo_replay, monkeypatch):
    monkeypatch.setattr(huggingface.pq.ParquetFile, "read", lambda *_: pytest.fail("read a whole split"))
    stream = load_replay(demo_replay, "sofa_shaped", streaming=True)["validation"].with_format("torch")
    monkeypatch.undo()
    rows = list(stream)
    whole = load_replay(demo_replay, "sofa_shaped")["validation"].with_format("torch")
    assert len(rows) == len(whole)
    assert torch.equal(
        torch.stack([row["state"] for row in rows]).nan_to_num(-9), whole[:]["state"].nan_to_num(-9)
    )
    assert torch.equal(torch.stack([row["reward"] for row in rows]), whole[:]["reward"])


def test_a_dataset_and_its_card_say_licence_citation_and_release(demo_replay, built):
    info = load_replay(demo_replay)["train"].info
    assert "ODbL" in info.license and "10.13026/dp1f-ex47" in info.citation and str(info.version) == "2.2.0"
    card = (demo_replay / "README.md").read_text()
    assert "ODbL" in card and "| `fluid_volume` | volume given in the step, mL |" in card
    card = (built[0] / "replay/README.md").read_text()
    assert "PhysioNet Credentialed" in card and "do not share them" in card


def test_pandas_reads_a_split_in_one_line(demo_replay):
    assert len(pd.read_parquet(demo_replay / "train.parquet")["state"].iloc[0]) == 62


def test_the_builder_gives_what_the_build_gives(built):
    folder, builder = built
    ours = load_replay(folder / "replay")
    theirs = builder.as_dataset()
    assert theirs["train"].features == ours["train"].features
    assert_same_rows(theirs["train"], ours["train"])


def test_one_configuration_a_reward_variant(built):
    folder, _ = built
    rewards = {}
    for variant in ("sparse", "sofa_shaped"):
        builder = prepare(folder / "mimic", folder / "cache", reward_variant=variant)
        assert builder.config.name.startswith(variant)
        rewards[variant] = builder.as_dataset(split="train").with_format("numpy")["reward"][:]
    assert not np.array_equal(rewards["sparse"], rewards["sofa_shaped"])
    assert len(list((folder / "cache").glob("replay-*"))) == 1  # built once for both


def test_two_processes_give_the_rows_of_one(built, tmp_path, monkeypatch):
    monkeypatch.setattr("sepsis_cql.replay.directory.ROW_GROUP", 16)
    folder, alone = built
    builder = replay_builder(folder / "mimic", tmp_path / "two")
    builder.download_and_prepare(num_proc=2)
    assert_same_rows(builder.as_dataset(split="train"), alone.as_dataset(split="train"))


def test_a_changed_raw_file_or_setting_is_never_served_from_the_cache(mimic, tmp_path):
    root = mimic.write(tmp_path / "mimic")
    before = replay_builder(root, tmp_path / "cache")
    changed = deepcopy(mimic)
    changed.rows["patients"][0]["anchor_age"] = 61
    changed.write(root)
    after = replay_builder(root, tmp_path / "cache")
    assert before.hash != after.hash
    assert before.cache_dir != after.cache_dir


def test_the_cache_is_private_and_marked(root, tmp_path):
    replay_builder(root, tmp_path / "cache")
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    assert (tmp_path / "cache" / ".private-replay").is_file()


def test_a_missing_column_is_an_error_not_nulls(built, tmp_path):
    shutil.copytree(built[0] / "replay", tmp_path / "replay")
    file = tmp_path / "replay" / "train.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["sofa"]), file)
    with pytest.raises(ReplayError, match=r"train\.parquet: columns sofa missing"):
        load_replay(tmp_path / "replay")


def test_an_unknown_reward_variant_is_refused(demo_replay):
    with pytest.raises(ReplayError, match="dense: not a reward variant"):
        load_replay(demo_replay, "dense")


def test_a_directory_that_is_no_replay_is_refused(tmp_path):
    with pytest.raises(Exception, match=r"provenance\.json: not found.*sepsis-cql build"):
        load_replay(tmp_path)
