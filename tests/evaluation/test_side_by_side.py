"""Parts side by side: the same answers in the same order, each on one thread, and nothing left changed."""

import threading
import warnings

import numpy as np
import pytest
import torch

from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.data import assemble_data
from sepsis_cql.evaluation.evaluate import estimate_all
from sepsis_cql.evaluation.policies.base import FunctionPolicy
from sepsis_cql.evaluation.policies.behavior import fit_behavior, ignore_convergence
from sepsis_cql.evaluation.policies.softened import EvaluatedPolicy
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.side_by_side import MOST, side_by_side


@pytest.fixture(params=[1, 2, 16])
def n_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_answers_come_in_the_order_of_the_parts_and_threads_are_as_before(n_threads):
    assert side_by_side(lambda part: part**2, range(9)) == [part**2 for part in range(9)]
    assert torch.get_num_threads() == n_threads
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [n_threads]


def test_parts_run_at_once_on_one_thread_each_and_are_not_split_further(n_threads):
    at_once = min(n_threads, MOST)
    together = threading.Barrier(at_once)

    def part(number):
        together.wait(timeout=20)  # breaks unless so many are there at once
        inner = side_by_side(lambda _: threading.get_ident(), range(3))
        return torch.get_num_threads(), set(inner) == {threading.get_ident()}

    assert side_by_side(part, range(2 * at_once)) == [(1, True)] * 2 * at_once


def test_the_first_error_ends_those_that_have_not_begun(n_threads):
    begun = []

    def part(number):
        begun.append(number)
        if number == 0:
            raise ValueError("the first")
        threading.Event().wait(0.01)

    with pytest.raises(ValueError, match="the first"):
        side_by_side(part, range(500))
    assert len(begun) < 500
    assert torch.get_num_threads() == n_threads


def test_a_policy_is_asked_one_question_at_a_time(n_threads, icu):
    settings = load_shipped(EvaluationSettings, "evaluation.yaml", {"resamples": 20, "fqe": {"refits": 5}})
    clinicians = FunctionPolicy("clinicians", lambda states: icu.clinicians[icu.state_index(states)])
    episodes = [icu.simulate(100, seed) for seed in (1, 2)]
    data = assemble_data(*episodes, lambda states: states, clinicians, icu.gamma)
    asking = threading.Lock()

    def answer(states):
        assert asking.acquire(blocking=False), "asked while it was answering"
        threading.Event().wait(0.01)
        asking.release()
        return np.full((len(states), 25), 1 / 25)

    versions = [EvaluatedPolicy(FunctionPolicy(f"{n}", answer), "learned", "none") for n in range(4)]
    found = estimate_all(versions, data, settings, lambda name, left: None, has_truth=False)
    assert [one.evaluated.name for one in found] == ["0", "1", "2", "3", "clinicians"]
    assert len({one.estimates["wis"].value for one in found[:-1]}) == 1


def test_fits_that_stop_early_in_several_threads_leave_the_warnings_as_they_were(n_threads):
    settings = load_shipped(EvaluationSettings, "evaluation.yaml").behavior.model_copy(
        update={"models": ["multilayer perceptron"]}
    )
    inputs, actions = np.random.default_rng(0).normal(size=(200, 5)), np.arange(200) % 25
    before = list(warnings.filters)

    def fit(number):
        return fit_behavior(inputs, actions, inputs, actions, settings, number).name

    with warnings.catch_warnings(record=True) as said, ignore_convergence():
        side_by_side(fit, range(12))
    assert said == []
    assert warnings.filters == before
