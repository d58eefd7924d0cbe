"""Several processes give the results of one, report what they do, and end with an error that says what happened."""

import os
import signal
from dataclasses import replace
from multiprocessing import active_children

import pytest
import torch

from sepsis_cql.common.errors import TrainingError
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.validation_score import PolicyScorer
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.training.outputs import read_run_record
from sepsis_cql.training.settings import RuntimeSettings
from sepsis_cql.training.sweep.in_processes import run_in_processes
from sepsis_cql.training.sweep.jobs import read_scores, run_locally, write_run_at_best_epoch

from .made_up import SETTINGS, make_jobs


def new_jobs(replay, out):
    scorer = PolicyScorer(open_replay(replay), load_shipped(EvaluationSettings, "evaluation.yaml"))
    return make_jobs(replay, out, scorer, 0.1, 1.0)


def results_of(job):
    return read_run_record(job.runs[0].out).weights_sha256, read_scores(job.runs[0]).scores


def test_two_processes_give_the_weights_and_scores_of_one(demo_replay, tmp_path):
    here, there = new_jobs(demo_replay, tmp_path / "here"), new_jobs(demo_replay, tmp_path / "there")
    epochs = []
    torch.set_num_threads(3)  # the caller's own, which the runs must neither use nor change
    try:
        assert not any(failures for _, failures in run_in_processes(1, here, lambda job, progress: None))
        ended = list(run_in_processes(2, there, lambda job, progress: epochs.append((job, progress.epoch))))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)
    assert not any(failures for _, failures in ended)
    assert [results_of(job) for job in there] == [results_of(job) for job in here]
    for job in there:
        assert [epoch for of, epoch in epochs if of is job] == list(range(1, SETTINGS.epochs + 1))


def test_a_killed_process_is_one_sentence(demo_replay, tmp_path):
    def kill(job, progress):
        os.kill(active_children()[0].pid, signal.SIGKILL)

    with pytest.raises(TrainingError, match=r"was killed.*runtime\.threads=1"):
        list(run_in_processes(2, new_jobs(demo_replay, tmp_path), kill))


def test_a_run_is_frozen_as_it_was_trained_wherever_that_was(demo_replay, tmp_path):
    """On a cluster the machine that trained a job may have other threads than the one that freezes the choice."""
    job = replace(new_jobs(demo_replay, tmp_path)[0], runtime=RuntimeSettings(device="cpu"))
    try:
        torch.set_num_threads(2)
        assert not any(failures for _, failures in run_locally([job], lambda job, progress: None))
        torch.set_num_threads(1)
        frozen = write_run_at_best_epoch(job, read_scores(job.runs[0]), "fqe", tmp_path / "frozen")
    finally:
        torch.set_num_threads(1)
    assert frozen.runtime.threads == read_run_record(job.runs[0].out).runtime.threads == 2
