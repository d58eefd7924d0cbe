import json
import stat
from dataclasses import replace

import numpy as np
import pytest

from sepsis_cql.replay.exports import to_d3rlpy, to_minari, write_published
from sepsis_cql.replay.statistics import normalise_states
from sepsis_cql.replay.transitions import load_transitions


@pytest.fixture
def normaliser(demo_replay):
    return json.loads((demo_replay / "statistics.json").read_text())["normaliser"]


def test_normalised_training_states_have_mean_0_and_scale_1(demo_replay, normaliser):
    states = normalise_states(load_transitions(demo_replay).states, normaliser)
    is_flag = np.array([name.endswith("_missing") for name in normaliser["names"]])
    np.testing.assert_allclose(states[:, ~is_flag].mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(states[:, ~is_flag].std(axis=0), 1, atol=1e-4)
    assert set(np.unique(states[:, is_flag])) == {0, 1}


def test_a_file_for_the_published_code_reads_back_as_it_was_written(demo_replay, normaliser, tmp_path):
    clinical = load_transitions(demo_replay)
    written = replace(
        clinical,
        states=normalise_states(clinical.states, normaliser),
        next_states=normalise_states(clinical.next_states, normaliser),
        normalised=True,
    )
    write_published(written, tmp_path / "replay.parquet")
    read = load_transitions(tmp_path / "replay.parquet")
    for name in ("states", "actions", "rewards", "next_states", "terminals", "stay_id", "step_index"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
    assert read.state_names == written.state_names
    assert stat.S_IMODE((tmp_path / "replay.parquet").stat().st_mode) == 0o600


def test_d3rlpy_gets_every_stay_as_an_episode(demo_replay, normaliser):
    pytest.importorskip("d3rlpy", reason="needs `pip install d3rlpy`, whose gymnasium pin differs from ours")
    transitions = load_transitions(demo_replay)
    dataset = to_d3rlpy(transitions, normaliser)
    assert dataset.size() == transitions.n_episodes
    assert dataset.transition_count == len(transitions)
    episode = dataset.episodes[0]
    assert episode.terminated
    np.testing.assert_array_equal(episode.actions[:, 0], transitions.actions[: len(episode)])


def test_minari_gets_every_stay_as_an_episode_in_a_private_place(demo_replay, normaliser, tmp_path):
    pytest.importorskip("minari", reason="needs the extra `minari`")
    transitions = load_transitions(demo_replay)
    dataset = to_minari(transitions, normaliser, "sepsis/train-v0", tmp_path / "minari")
    assert dataset.total_episodes == transitions.n_episodes
    assert dataset.total_steps == len(transitions)
    episode = next(iter(dataset.iterate_episodes([0])))
    assert len(episode.observations) == len(episode.actions) + 1
    np.testing.assert_array_equal(episode.actions, transitions.actions[: len(episode.actions)])
    assert stat.S_IMODE((tmp_path / "minari").stat().st_mode) == 0o700
    assert (tmp_path / "minari" / "sepsis").is_dir()
