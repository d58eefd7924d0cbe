import stat
from dataclasses import replace

import numpy as np
import pytest

from sepsis_cql.replay.directory import open_replay
from sepsis_cql.replay.interop.exports import to_d3rlpy, to_minari, write_original


@pytest.fixture
def normalizer(demo_replay):
    return open_replay(demo_replay).statistics.normalizer


def test_normalized_training_states_have_mean_0_and_scale_1(demo_replay, normalizer):
    states = normalizer(open_replay(demo_replay).transitions("train").states)
    is_flag = np.array([name.endswith("_missing") for name in normalizer.names])
    np.testing.assert_allclose(states[:, ~is_flag].mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(states[:, ~is_flag].std(axis=0), 1, atol=1e-4)
    assert set(np.unique(states[:, is_flag])) == {0, 1}


def test_a_file_for_the_published_code_reads_back_as_it_was_written(demo_replay, normalizer, tmp_path):
    clinical = open_replay(demo_replay).transitions("train")
    written = replace(
        clinical,
        states=normalizer(clinical.states),
        next_states=normalizer(clinical.next_states),
        normalized=True,
    )
    write_original(written, tmp_path / "replay.parquet")
    read = open_replay(tmp_path / "replay.parquet").transitions()
    for name in ("states", "actions", "rewards", "next_states", "terminals", "stay_id", "step_index"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
    assert read.state_names == written.state_names
    assert stat.S_IMODE((tmp_path / "replay.parquet").stat().st_mode) == 0o600


def test_d3rlpy_gets_every_stay_as_an_episode(demo_replay, normalizer):
    pytest.importorskip("d3rlpy", reason="needs `pip install d3rlpy`, whose gymnasium pin differs from ours")
    transitions = open_replay(demo_replay).transitions("train")
    dataset = to_d3rlpy(transitions, normalizer)
    assert dataset.size() == transitions.n_episodes
    assert dataset.transition_count == len(transitions)
    episode = dataset.episodes[0]
    assert episode.terminated
    np.testing.assert_array_equal(episode.actions[:, 0], transitions.actions[: len(episode)])


def test_minari_gets_every_stay_as_an_episode_in_a_private_place(demo_replay, normalizer, tmp_path):
    pytest.importorskip("minari", reason="needs the extra `minari`")
    transitions = open_replay(demo_replay).transitions("train")
    dataset = to_minari(transitions, normalizer, "sepsis/train-v0", tmp_path / "minari")
    assert dataset.total_episodes == transitions.n_episodes
    assert dataset.total_steps == len(transitions)
    episode = next(iter(dataset.iterate_episodes([0])))
    assert len(episode.observations) == len(episode.actions) + 1
    np.testing.assert_array_equal(episode.actions, transitions.actions[: len(episode.actions)])
    assert stat.S_IMODE((tmp_path / "minari").stat().st_mode) == 0o700
    assert (tmp_path / "minari" / "sepsis").is_dir()
