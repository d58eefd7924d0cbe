"""Every published table of a small simulated replay, recomputed from the others: no small count comes back."""

import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from sepsis_cql.common.errors import SepsisCQLError
from sepsis_cql.common.privacy import SMALLEST_STEP, round_count, round_share
from sepsis_cql.common.strict import SHIPPED, load_shipped, read_record
from sepsis_cql.evaluation.evaluate import evaluate_policy
from sepsis_cql.evaluation.policies.load import policy_of_function
from sepsis_cql.evaluation.report.page import render_page
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.publishing.evidence import read_run
from sepsis_cql.publishing.guard.build import reduce_build
from sepsis_cql.publishing.guard.disclosure import reduce_evaluation
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.replay.records import Provenance
from sepsis_cql.replay.report.counts import BuildReport
from sepsis_cql.replay.report.scarce import find_scarce
from sepsis_cql.replay.rows.buffers import DOSES, state_matrix
from sepsis_cql.replay.rows.statistics import fit_normalizer
from sepsis_cql.replay.settings import Features, ReplaySettings
from sepsis_cql.synthetic.truth import open_truth

SETTINGS = load_shipped(ReplaySettings, "replay.yaml")
FEATURES = load_shipped(Features, "features.yaml")
NAMES = FEATURES.state_names


class Attacker:
    """What follows about each count from what is shown of it and from which counts add up to which."""

    def __init__(self):
        self.truth, self.low, self.high, self.sums = {}, {}, {}, []

    def sees(self, name, truth, shown):
        """A count shown in tens, or as "<10"; None shows only that there is one."""
        self.truth[name] = truth
        whole = shown if isinstance(shown, int) else 0
        ranges = {None: (0, 10**6), "<10": (1, 9)}
        self.low[name], self.high[name] = ranges.get(shown, (max(0, whole - 5), whole + 4))

    def sees_share(self, name, truth, share, whole):
        """A share of a whole that is shown in tens, in steps of ten of it."""
        half = max(10 / whole, SMALLEST_STEP) / 2
        self.truth[name] = truth
        self.low[name] = max(0, math.floor((share - half) * (whole - 5)))
        self.high[name] = math.ceil((share + half) * (whole + 4))

    def knows(self, total, parts):
        """That `parts` add up to `total`."""
        assert self.truth[total] == sum(self.truth[part] for part in parts)
        self.sums.append((total, list(parts)))

    def works_out(self):
        """Narrow every range by every sum until nothing changes."""
        before = None
        while before != (before := (dict(self.low), dict(self.high))):
            for total, parts in self.sums:
                lows, highs = (sum(ends[part] for part in parts) for ends in (self.low, self.high))
                self._narrow(total, lows, highs)
                for part in parts:
                    self._narrow(
                        part,
                        self.low[total] - (sum(self.high[other] for other in parts) - self.high[part]),
                        self.high[total] - (sum(self.low[other] for other in parts) - self.low[part]),
                    )

    def pinned(self):
        """Small counts that are known exactly; none of the true ones may have been lost on the way."""
        for name, truth in self.truth.items():
            assert self.low[name] <= truth <= self.high[name], name
        return [
            name for name, truth in self.truth.items() if 0 < truth < 10 and self.low[name] == self.high[name]
        ]

    def _narrow(self, name, low, high):
        self.low[name], self.high[name] = max(self.low[name], low), min(self.high[name], high)


@pytest.fixture(scope="module")
def build(trip):
    return read_record(BuildReport, trip.replay / "build_report.json", expected="a report")


@pytest.fixture(scope="module")
def published_build(build, trip):
    provenance = read_record(Provenance, trip.replay / "provenance.json", expected="a provenance")
    return reduce_build(build, provenance)


@pytest.fixture(scope="module")
def evaluation(trip):
    """An evaluation of a policy that mixes all doses, on the few episodes of validation."""
    values = yaml.safe_load((SHIPPED / "evaluation.yaml").read_text())
    values["fqe"] |= {"refits": 2, "features": 8, "components": 2}
    values["behavior"] |= {"models": ["multinomial logistic"]}
    values |= {"clinician_shares": [0.5], "tilt_temperatures": [], "resamples": 20, "truth_episodes": 200}
    values["sensitivity"] = {"gammas": [0.95], "first_steps": [3], "behavior_refits": 2}
    settings = EvaluationSettings.model_validate(values, strict=False)
    loaded = policy_of_function(lambda states: np.full((len(states), 25), 0.04), "made up")
    replay = open_replay(trip.replay)
    found = evaluate_policy(
        loaded, replay, "validation", "sound", settings, truth=open_truth(replay), sensitivity=True
    )
    facts = found.policy.model_copy(update={"name": "made up", "kind": "package", "weights_sha256": "0" * 64})
    return found.model_copy(update={"policy": facts})


def test_tables_of_a_build_give_no_small_count_back(build, published_build):
    attacker, shown = Attacker(), published_build
    for name in ("stays", "septic_stays", "episodes", "transitions", "deaths"):
        attacker.sees(name, getattr(build.cohort, name), getattr(shown.cohort, name))
    attacker.sees("survivors", build.cohort.episodes - build.cohort.deaths, None)
    attacker.knows("episodes", ["deaths", "survivors"])
    previous = "stays"
    for number, (row, seen) in enumerate(zip(build.attrition[1:], shown.attrition, strict=True)):
        attacker.sees(f"removed {number}", row.stays_removed, seen.removed)
        attacker.sees(f"remaining {number}", row.stays_remaining, seen.remaining)
        attacker.knows(previous, [f"removed {number}", f"remaining {number}"])
        previous = f"remaining {number}"
    attacker.knows(previous, ["episodes"])
    for split, size in build.splits.items():
        attacker.sees(split, size.patients, getattr(shown.splits, split))
    attacker.knows("episodes", build.splits)
    grid = build.action_grid.counts["train"]
    for row, column in np.ndindex(5, 5):
        attacker.sees(f"dose {row} {column}", grid[row][column], shown.action_grid.counts[row][column])
    attacker.sees("steps", build.splits["train"].transitions, round_count(build.splits["train"].transitions))
    attacker.knows("steps", [f"dose {row} {column}" for row, column in np.ndindex(5, 5)])
    small = [name for name, truth in attacker.truth.items() if 0 < truth < 10]
    assert len(small) >= 5, "too few small counts to attack"
    attacker.works_out()
    assert attacker.pinned() == []


def shares_of(evaluation):
    """Yield every share of an evaluation with the number it is a share of."""
    shown, steps, episodes = evaluation.diagnostics, evaluation.n_transitions, evaluation.n_episodes
    for name in ("clinician_actions", "policy_actions"):
        yield from ((f"{name} {i}", share, steps) for i, share in enumerate(getattr(shown, name)))
    yield "agreement", shown.agreement, steps
    yield from ((f"support {row.threshold}", row.share, steps) for row in shown.unsupported_share)
    yield from ((f"weights {i}", share, episodes) for i, share in enumerate(shown.weights.shares))
    yield "weight 0", shown.weights.zero_share, episodes
    for drug in ("vasopressor", "fluid"):
        for cell in getattr(shown.dose_difference, drug):
            yield f"{drug} {cell.difference}", cell.mortality, cell.n_episodes
    for policy in evaluation.policies:
        yield f"zero weight, {policy.name}", policy.weights.zero_weight_share, episodes


def test_shares_times_their_whole_give_no_small_count_back(evaluation):
    exact = {name: (share, whole) for name, share, whole in shares_of(evaluation)}
    shown = {
        name: (share, whole) for name, share, whole in shares_of(reduce_evaluation(evaluation, SETTINGS))
    }
    attacked = 0
    for name, (share, whole) in shown.items():
        name = name.replace("package", "made up")
        if share is None or name not in exact or not isinstance(exact[name][1], int):
            continue
        truth = round(exact[name][0] * exact[name][1])
        wholes = range(max(1, whole - 5), whole + 5)
        fitting = {part for n in wholes for part in range(n + 1) if round_share(part / n, n) == share}
        assert truth in fitting
        if 0 < truth < 10:
            attacked += 1
            assert len(fitting) > 1, name
    assert attacked >= 5, "too few small counts to attack"


def test_the_behavior_policy_is_held_against_the_doses_of_each_severity(evaluation, trip):
    replay = open_replay(trip.replay)
    part, sofa = replay.transitions("validation"), replay.details("validation")["sofa"].to_numpy()
    rows = evaluation.diagnostics.behavior_by_sofa
    shown = reduce_evaluation(evaluation, SETTINGS).diagnostics.behavior_by_sofa
    assert len(rows) >= 2
    for row, seen in zip(rows, shown, strict=True):
        low, high = (float(end) for end in row.group.strip("[)").split(", "))
        inside = (sofa >= low) & (sofa < high)
        assert row.n_patients == len(np.unique(part.subject_id[inside]))
        assert row.vasopressor.observed == pytest.approx((part.actions[inside] >= 5).mean())
        assert row.fluid.observed == pytest.approx((part.actions[inside] % 5 > 0).mean())
        assert 0 < row.vasopressor.predicted < 1 and row.fluid.predicted != row.fluid.observed
        assert seen.fluid.observed == round_share(row.fluid.observed, row.n_patients)
        assert seen.n_patients == round_count(row.n_patients)
    page = render_page(evaluation, {})
    assert "vasopressor predicted" in page and f"{100 * rows[0].fluid.observed:.1f}%" in page


def test_doses_of_an_evaluation_add_up_to_no_small_count(evaluation):
    shown, attacker = reduce_evaluation(evaluation, SETTINGS), Attacker()
    steps = evaluation.n_transitions
    attacker.sees("steps", steps, shown.n_transitions)
    for i, (share, exact) in enumerate(
        zip(shown.diagnostics.clinician_actions, evaluation.diagnostics.clinician_actions, strict=True)
    ):
        attacker.sees_share(f"dose {i}", round(exact * steps), share, shown.n_transitions)
    attacker.knows("steps", [f"dose {i}" for i in range(25)])
    attacker.works_out()
    assert attacker.pinned() == []


def test_a_difference_in_a_subgroup_gives_no_hidden_return_of_the_clinicians(evaluation):
    """Where their mean return is hidden, as it may rest on few deaths, so is what a policy gains over it."""
    exact, shown = evaluation.diagnostics, reduce_evaluation(evaluation, SETTINGS).diagnostics
    assert [row.group for row in exact.differences.rows] == [row.group for row in exact.subgroups]
    assert None not in [row.difference.value for row in exact.differences.rows]
    assert shown.differences.policy == "package" and shown.differences.rows
    for group, row in zip(shown.subgroups, shown.differences.rows, strict=True):
        assert row.n_episodes % 10 == 0 and row.ess % 10 == 0
        assert (group.clinicians.value is None) == (row.difference.value is None)
    assert any(row.difference.value is None for row in shown.differences.rows)


def test_every_policy_has_the_true_returns_of_its_worst_off_where_the_simulator_tells(evaluation):
    for policy in evaluation.policies:
        tenth, quarter = policy.tails
        assert -evaluation.bound <= tenth.true_value <= quarter.true_value <= policy.true_value.value
        assert (policy.certain is None) == (policy.role == "clinicians")
    few = evaluation.policies[-1].tails[0]  # a tenth of the scored clinicians' episodes
    assert few.value is None and evaluation.n_episodes < 100


def test_variations_are_published_by_name_with_what_rests_on_enough_episodes(evaluation):
    names = [
        "as evaluated",
        "gamma 0.95",
        "first 3 decisions",
        "decisions before comfort measures",
        "reward sofa_shaped",
        "behavior policy refitted",
    ]
    shown = reduce_evaluation(evaluation, SETTINGS)
    assert [row.name for row in evaluation.sensitivity] == [row.name for row in shown.sensitivity] == names
    as_it_is, other, *_ = evaluation.sensitivity
    judged = evaluation.policies[0]
    assert as_it_is.differences == judged.differences and as_it_is.ess == judged.weights.ess
    assert other.differences["fqe_cross_fitted"].value != pytest.approx(judged.difference_to_clinicians.value)
    cut = evaluation.sensitivity[2]
    assert cut.ess > as_it_is.ess  # fewer ratios are multiplied
    assert reduce_evaluation(shown, SETTINGS) == shown
    page = render_page(evaluation, {})
    for text in (
        "Sensitivity to choices",
        "For whom it differs",
        "The worst-off, and what is certain",
        *names,
    ):
        assert text in page


def numbers_in(value):
    """Yield every number of a nested document."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def test_nothing_published_is_a_number_of_one_patient(evaluation, published_build, trip):
    shown = reduce_evaluation(evaluation, SETTINGS)
    edges = {"vasopressor_edges", "fluid_edges"}  # quartiles of the doses
    documents = shown.model_dump_json(), published_build.model_dump_json(exclude={"action_grid": edges})
    published = {number for text in documents for number in numbers_in(json.loads(text))}
    own = [share for share in evaluation.diagnostics.weights.largest_shares if share > 0]
    own += [policy.weights.largest_weight_share for policy in evaluation.policies]
    own += [estimate.truncated_at for policy in evaluation.policies for estimate in policy.estimates.values()]
    states = np.stack(trip.steps["state"])
    own += [*np.nanmax(states, axis=0), *np.nanmin(states, axis=0)]
    exact = {float(f"{value:.5g}") for value in own if value is not None and not float(value).is_integer()}
    telling = {value for value in exact if value != float(f"{value:.1g}")}  # one digit is met by chance
    assert len(telling) > 40
    assert {value for value in published if value in telling and not math.isclose(value, 1.0)} == set()
    for policy in shown.policies:
        for name in ("wis", "wdr"):
            if policy.weights.ess < 10 and name in policy.estimates:
                assert policy.estimates[name].value is None


@pytest.fixture(scope="module")
def training(trip):
    """Patient of each training step, its state, and both doses."""
    steps = pq.read_table(trip.replay / "train.parquet")
    doses = tuple(steps[dose].to_numpy() for dose in DOSES)
    return steps["subject_id"].to_numpy(), state_matrix(steps["state"]), doses


def scarce_of(subject_id, states, doses):
    normalizer, _ = fit_normalizer(states, FEATURES)
    return normalizer, find_scarce(subject_id, states, normalizer, doses)


@pytest.mark.parametrize(("patients", "found"), [(0, False), (1, True), (9, True), (10, False)])
def test_numbers_that_few_patients_determine_are_found(training, build, patients, found):
    subject_id, states, doses = training
    assert build.scarce == scarce_of(*training)[1]
    column, age = NAMES.index("lactate"), NAMES.index("age_years")
    had = np.unique(subject_id[~np.isnan(states[:, column])])[:patients]
    alone, equal = states.copy(), states.copy()
    alone[~np.isin(subject_id, had), column] = np.nan
    equal[:, age] = np.where(np.isin(subject_id, had), 80 + subject_id % 7, 50)
    given = (np.where(np.isin(subject_id, had), 0.1, 0.0), doses[1])
    normalizer, scarce = scarce_of(subject_id, alone, doses)
    assert ("lactate" in scarce) is found
    if patients == 1:  # why: the weights would say this patient's own median
        own = np.clip(states[subject_id == had[0], column], 0, 20)
        assert normalizer.fill[column] == np.nanmedian(own)
    assert ("age_years" in scarce_of(subject_id, equal, doses)[1]) is found
    assert ("vasopressor dose" in scarce_of(subject_id, states, given)[1]) is found


@pytest.mark.parametrize(
    ("source", "scarce", "message"),
    [
        ("mimic-iv", ["lactate", "vasopressor dose"], "what the weights say of lactate, vasopressor dose"),
        ("mimic-iv", None, "Build the replay again"),
        ("mimic-iv", [], r"provenance\.json: not found"),
        ("synthetic", ["lactate"], r"provenance\.json: not found"),
    ],
)
def test_weights_that_say_something_of_few_patients_are_not_exported(
    build, tmp_path, source, scarce, message
):
    changes = {"source": build.source.model_copy(update={"name": source}), "scarce": scarce}
    (tmp_path / "build_report.json").write_text(build.model_copy(update=changes).model_dump_json())
    with pytest.raises(SepsisCQLError, match=message):
        read_run(tmp_path, tmp_path, tmp_path)


def test_what_the_attacker_does_works():
    attacker = Attacker()
    for name, truth, shown in (("all", 60, 60), ("one", 57, None), ("two", 3, "<10")):
        attacker.sees(name, truth, shown)
    attacker.knows("all", ["one", "two"])
    attacker.low["all"] = attacker.high["all"] = 60
    attacker.low["one"] = attacker.high["one"] = 57  # an exact margin gives the small cell away
    attacker.works_out()
    assert attacker.pinned() == ["two"]
