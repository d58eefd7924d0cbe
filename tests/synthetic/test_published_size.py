"""The study at the published size has its cohort, nearly its splits, and its 35 steps an epoch."""

import math

import numpy as np

from sepsis_cql.commands.study import load_study_settings
from sepsis_cql.common.strict import SHIPPED, load_settings, load_shipped, merge, parse_changes, write_changes
from sepsis_cql.replay.rows.splits import assign_splits
from sepsis_cql.replay.settings import ReplaySettings
from sepsis_cql.synthetic.rendering.roster import COHORT, count_stays, make_roster
from sepsis_cql.synthetic.settings import SyntheticSettings
from sepsis_cql.synthetic.simulator import SimulatedICU, simulate
from sepsis_cql.training.learners.registry import load_training_settings

PUBLISHED = {"train": 12_062, "validation": 2_584, "test": 2_585}  # episodes


def test_the_published_size_has_17231_episodes_and_7000_steps_in_200_epochs():
    study, shipped = load_study_settings("published", {}), load_shipped(ReplaySettings, "replay.yaml")
    settings = load_settings(SyntheticSettings, SHIPPED / "synthetic.yaml", study.synthetic)
    simulated, quirks = np.random.SeedSequence(study.seed).spawn(2)  # as `synthesize` does
    n_stays = study.patients + sum(count_stays(study.patients, settings.rendering)[1:])
    episodes = simulate(SimulatedICU(settings, n_stays, simulated))
    roster = make_roster(episodes, study.patients, settings.rendering, np.random.default_rng(quirks))
    cohort = roster.kind == COHORT
    splits = assign_splits(roster.subject_id[cohort], shipped.split_shares, shipped.seed)
    split = np.array([splits[subject] for subject in roster.subject_id[cohort].tolist()])
    assert cohort.sum() == sum(PUBLISHED.values())
    for name, expected in PUBLISHED.items():
        assert abs((split == name).sum() - expected) < 0.02 * expected, name
    training = load_training_settings(SHIPPED / "cql.yaml", study.training)
    transitions = roster.n_steps[cohort][split == "train"].sum()
    assert math.ceil(transitions / training.batch_size) * training.epochs == 7000


def test_changes_written_as_lines_are_read_as_they_were():
    changes = {
        "outcome": {"discharge": {"base": -0.24}},
        "reading_missing": 0.1,
        "hidden": {"units": [0.5, -1]},
    }
    lines = write_changes("synthetic", changes)
    assert lines[0] == "synthetic.outcome.discharge.base=-0.24"
    assert parse_changes(lines, ["synthetic"])["synthetic"] == changes
    later = parse_changes([*lines, "synthetic.reading_missing=0.2"], ["synthetic"])["synthetic"]
    assert later == merge(changes, {"reading_missing": 0.2})
