"""What no state shows: off as shipped; on, it moves doses and deaths but never the round trip through the tables."""

import numpy as np
import pandas as pd
import pytest

from sepsis_cql.replay.build import build_replay
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.replay.rows.splits import SPLITS
from sepsis_cql.replay.settings import load_build_settings
from sepsis_cql.synthetic.rendering.hospital import UNITS, YEAR_GROUPS
from sepsis_cql.synthetic.rendering.render import synthesize
from sepsis_cql.synthetic.rendering.shaped_truth import shaped_value
from sepsis_cql.synthetic.settings import Comfort, HiddenSettings
from sepsis_cql.synthetic.simulator import SimulatedICU, simulate
from sepsis_cql.synthetic.truth import Truth, open_truth

GAMMA = 0.99


def hiding(settings, **changes):
    return settings.model_copy(update={"hidden": HiddenSettings(**changes)})


def share_treated(episodes, group):
    active = np.arange(len(episodes.states))[:, None] < episodes.icu.n_steps[None]
    return ((episodes.vasopressor > 0) & active)[:, group].sum() / active[:, group].sum()


def test_hidden_severity_makes_clinicians_treat_whom_the_state_does_not_show_to_be_sicker(settings):
    episodes = {on: simulate(SimulatedICU(hiding(settings, severity=on), 1500, 1)) for on in (0.0, 1.5)}
    gaps = {}
    for on, found in episodes.items():
        first, icu = found.vasopressor[2] > 0, found.icu
        expected = icu.clinicians.laws(found.states[2])[0].given
        gaps[on] = np.corrcoef((first - expected)[icu.n_steps > 2], icu.died[icu.n_steps > 2])[0, 1]
    assert gaps[1.5] > gaps[0.0] + 0.1  # what treatment itself does to deaths is in both


def test_comfort_means_less_treatment_and_more_deaths(settings):
    found = simulate(
        SimulatedICU(hiding(settings, comfort=Comfort(share=0.3, treatment=-3.0, death=2.0)), 1500, 1)
    )
    comfort = found.icu.hidden.comfort
    assert 0.25 < comfort.mean() < 0.35
    assert share_treated(found, comfort) < 0.6 * share_treated(found, ~comfort)
    assert found.icu.died[comfort].mean() > found.icu.died[~comfort].mean() + 0.2


def test_the_clinicians_value_counts_what_they_alone_know(settings, truth):
    """A policy of the state, the clinicians' own habit, is worth another value than they reach."""
    hidden = Truth(hiding(settings, severity=1.5), truth.grid, truth.terminal_reward)
    assert hidden.is_confounded and not truth.is_confounded
    clinicians = hidden.value(hidden.behavior, 3000, 5, gamma=GAMMA)
    icu = SimulatedICU(hidden.settings, 3000, 11)
    simulate(icu)
    returns = np.where(icu.died, -15, 15) * GAMMA ** (icu.n_steps - 1)
    error = np.hypot(clinicians.standard_error, returns.std() / np.sqrt(3000))
    assert abs(returns.mean() - clinicians.value) < 4 * error


@pytest.fixture(scope="module")
def drifted(settings, tmp_path_factory):
    """Tables of an ICU whose units and eras treat otherwise, with hidden severity and goals of care; and its replay."""
    folder = tmp_path_factory.mktemp("drift")
    comfort = Comfort(share=0.2, treatment=-2.0, death=1.0)
    changed = hiding(settings, severity=0.5, comfort=comfort, units=[-2.0, 2.0], eras=[0.0, 1.0])
    made = synthesize(folder / "tables", 90, 3, changed)
    build_replay(folder / "tables", folder / "replay", load_build_settings())
    return made, folder


def test_units_and_eras_are_those_of_the_tables_and_actions_survive_the_round_trip(drifted):
    made, folder = drifted
    stays = pd.read_csv(folder / "tables" / "icu" / "icustays.csv.gz").set_index("stay_id")
    units = stays.loc[made.roster.stay_id, "first_careunit"]
    assert (units.to_numpy() == UNITS[made.episodes.icu.hidden.unit]).all()
    patients = pd.read_csv(folder / "tables" / "hosp" / "patients.csv.gz").set_index("subject_id")
    cohort = made.cohort
    groups = patients.loc[made.roster.subject_id[cohort], "anchor_year_group"]
    assert (groups.to_numpy() == YEAR_GROUPS[made.episodes.icu.hidden.era[cohort]]).all()
    low, high = (made.episodes.icu.hidden.unit == unit for unit in (0, 1))
    assert share_treated(made.episodes, low) < share_treated(made.episodes, high)
    steps = pd.concat(pd.read_parquet(folder / "replay" / f"{split}.parquet") for split in SPLITS)
    row = steps["stay_id"].map({stay: row for row, stay in enumerate(made.roster.stay_id)}).to_numpy()
    assert set(row) == set(cohort)
    grid = open_replay(folder / "replay").statistics.action_grid
    truth = open_truth(open_replay(folder / "replay"))
    step = steps["step_index"].to_numpy()
    doses = (made.episodes.vasopressor[step, row], made.episodes.fluid[step, row])
    assert truth.is_confounded and list(truth.grid.vasopressor_edges) == list(grid.vasopressor_edges)
    assert (truth.grid.bin_actions(*doses) == steps["action"]).all()


def test_the_shaped_value_differs_from_the_sparse_one_by_what_sofa_adds(settings, truth):
    """The clinicians' shaped value is the sparse one of the same rollouts and the discounted changes of SOFA."""
    build = load_build_settings()
    plain = build.replay.model_copy(update={"sofa_weight": 0.0})
    values = {
        weight: shaped_value(
            truth, truth.behavior, 60, 4, build.model_copy(update={"replay": replay}), gamma=GAMMA
        )
        for weight, replay in ((1, build.replay), (0, plain))
    }
    assert values[1].n_episodes == values[0].n_episodes == 60
    assert 0 < abs(values[1].value - values[0].value) < 0.025 * 24
    assert values[0].mortality == values[1].mortality
    alive = 1 - 2 * values[0].mortality
    assert GAMMA**16 * 15 * alive - 2 < values[0].value < 15 * alive + 2
