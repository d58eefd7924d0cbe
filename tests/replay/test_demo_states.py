"""States, doses and outcomes of demo stays, worked out again in plain pandas from the raw files."""

import numpy as np
import pandas as pd
import pytest
import yaml

from .made_up import read_steps

STEPS = range(0, 500, 37)  # rows of the 519 steps of the demo, in fourteen stays
FOUR_HOURS = pd.Timedelta(hours=4)


class Raw:
    """Raw tables of the demo with the time each value became known."""

    def __init__(self, root):
        self.chart = self.read(root / "icu" / "chartevents.csv.gz", ["charttime", "storetime"])
        self.labs = self.read(root / "hosp" / "labevents.csv.gz", ["charttime", "storetime"])
        self.output = self.read(root / "icu" / "outputevents.csv.gz", ["charttime", "storetime"])
        self.input = self.read(root / "icu" / "inputevents.csv.gz", ["starttime", "endtime"])
        self.patients = pd.read_csv(root / "hosp" / "patients.csv.gz", parse_dates=["dod"]).set_index(
            "subject_id"
        )
        arterial = self.labs[(self.labs["itemid"] == 52033) & (self.labs["value"] == "ART.")]
        self.arterial = set(arterial["specimen_id"])

    @staticmethod
    def read(file, times):
        table = pd.read_csv(file, parse_dates=times, low_memory=False)
        if "storetime" in times:
            table["known"] = table["storetime"].fillna(table["charttime"]).clip(lower=table["charttime"])
        return table

    def window(self, table, key, number, itemids, end):
        """Rows of one stay or patient that became known in the 4 h before `end`, oldest first."""
        rows = table[(table[key] == number) & table["itemid"].isin(itemids)]
        rows = rows[(rows["known"] >= end - FOUR_HOURS) & (rows["known"] < end)]
        return rows.sort_values(["charttime", "known"])


@pytest.fixture(scope="module")
def raw(mimic_demo):
    return Raw(mimic_demo)


@pytest.fixture(scope="module")
def steps(demo_replay):
    return read_steps(demo_replay)


@pytest.fixture(params=STEPS)
def step(request, steps):
    return steps.iloc[request.param]


@pytest.mark.parametrize(
    ("name", "itemid", "reduce"), [("heart_rate", 220045, "mean"), ("spo2", 220277, "min")]
)
def test_vital_signs_are_reduced_over_the_window(raw, step, name, itemid, reduce):
    rows = raw.window(raw.chart, "stay_id", step["stay_id"], [itemid], step["step_start"])
    if len(rows):
        assert step[name] == pytest.approx(rows["valuenum"].agg(reduce), rel=1e-5)


def test_mean_pressure_is_the_lowest_and_arterial_where_there_is_one(raw, step):
    rows = raw.window(raw.chart, "stay_id", step["stay_id"], [220052, 225312, 220181], step["step_start"])
    rows = rows[rows["valuenum"].between(1, 300)]
    has_line = rows["charttime"].isin(rows.loc[rows["itemid"] != 220181, "charttime"])
    rows = rows[(rows["itemid"] != 220181) | ~has_line]
    assert step["map_missing"] == float(rows.empty)
    if len(rows):
        assert step["map"] == pytest.approx(rows["valuenum"].min(), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "itemids", "reduce"),
    [
        ("creatinine", [50912], "max"),
        ("platelets", [51265], "min"),
        ("lactate", [50813], "max"),
        ("inr", [51237], "last"),
    ],
)
def test_laboratory_values_are_the_newest_known_ones_of_the_day_before(raw, step, name, itemids, reduce):
    first_step = step["step_start"] - step["step_index"] * FOUR_HOURS
    kept = 48 if name == "inr" else 12 if name == "lactate" else 24
    for windows_ago in range(min(int(step["step_index"]) + 6, kept // 4 + 1)):
        end = step["step_start"] - windows_ago * FOUR_HOURS
        rows = raw.window(raw.labs, "subject_id", step["subject_id"], itemids, end).dropna(subset="valuenum")
        if len(rows):
            value = rows["valuenum"].iloc[-1] if reduce == "last" else rows["valuenum"].agg(reduce)
            assert step[name] == pytest.approx(value, rel=1e-5)
            break
    else:
        assert np.isnan(step[name]), (
            f"nothing known since {first_step - pd.Timedelta(hours=24)} or for {kept} h"
        )
    assert step[f"{name}_missing"] == float(len(rows) == 0 or windows_ago > 0)


def test_arterial_oxygen_comes_from_arterial_specimens_only(raw, step):
    rows = raw.window(raw.labs, "subject_id", step["subject_id"], [50821], step["step_start"])
    rows = rows[rows["specimen_id"].isin(raw.arterial)].dropna(subset="valuenum")
    assert step["pao2_missing"] == float(rows.empty)
    if len(rows):
        assert step["pao2"] == pytest.approx(rows["valuenum"].min())


def test_urine_is_the_net_volume_filed_in_the_window(raw, step):
    itemids = [226559, 226560, 226561, 226584, 226563, 226564, 226565, 226567, 226557, 226558, 227488, 227489]
    rows = raw.window(raw.output, "stay_id", step["stay_id"], itemids, step["step_start"])
    signed = rows["value"].where(rows["itemid"] != 227488, -rows["value"])
    expected = max(signed.sum(), 0) if len(rows) and step["window_hours"] == 4 else np.nan
    assert step["urine_output_4h"] == pytest.approx(expected, nan_ok=True)


def test_fluid_is_shared_out_by_time_and_cumulates_before_the_step(raw, step, request):
    facts = yaml.safe_load((request.config.rootpath / "configs" / "fluids.yaml").read_text())
    factor = {itemid: fluid["factor"] for itemid, fluid in facts["resuscitation"].items()}
    rows = raw.input[raw.input["stay_id"] == step["stay_id"]]
    before_icu = rows[rows["itemid"].isin(facts["before_icu"]) & (rows["starttime"] < step["step_start"])]
    rows = rows[rows["itemid"].isin(factor) & (rows["amount"] > 0)]
    volume = rows["amount"] * rows["itemid"].map(factor)

    def given(start, end):
        overlap = rows["endtime"].clip(upper=end) - rows["starttime"].clip(lower=start)
        share = (overlap / (rows["endtime"] - rows["starttime"])).clip(lower=0)
        at_once = (rows["starttime"] >= start) & (rows["starttime"] < end)
        return (volume * share.where(rows["rate"].notna(), at_once.astype(float))).sum()

    start = step["step_start"]
    assert step["fluid_volume"] == pytest.approx(given(start, start + FOUR_HOURS), rel=1e-4, abs=1e-3)
    total = given(pd.Timestamp(0), start) + before_icu["amount"].sum()
    assert step["cum_iv_fluid_ml"] == pytest.approx(total, rel=1e-4, abs=1e-3)


def test_vasopressor_dose_is_the_largest_official_equivalent_of_the_step(shared, steps):
    reference = shared / "clinical" / "mimic_code_reference"
    official = pd.read_parquet(reference / "norepinephrine_equivalent_dose.parquet")
    known = set(pd.read_parquet(reference / "icustay_detail.parquet")["stay_id"])
    ours = steps[steps["stay_id"].isin(known)]
    pairs = ours[["stay_id", "step_index", "step_start"]].merge(official, on="stay_id")
    running = (pairs["starttime"] < pairs["step_start"] + FOUR_HOURS) & (
        pairs["endtime"] > pairs["step_start"]
    )
    largest = pairs[running].groupby(["stay_id", "step_index"])["norepinephrine_equivalent_dose"].max()
    expected = (
        largest.reindex(pd.MultiIndex.from_frame(ours[["stay_id", "step_index"]])).fillna(0).astype(float)
    )
    assert (expected > 0).sum() > 50
    np.testing.assert_allclose(ours["norepinephrine_equivalent"], expected, rtol=1e-5)


def test_death_is_within_90_days_of_onset_by_date(raw, demo_replay):
    stays = pd.read_parquet(demo_replay / "stays.parquet")
    dod = stays["subject_id"].map(raw.patients["dod"])
    expected = dod <= stays["onset_time"].dt.normalize() + pd.Timedelta(days=90)
    assert stays["died_90d"].tolist() == expected.tolist()


def test_rewards_are_plus_or_minus_15_by_death_and_sofa_change_in_between(demo_replay, steps):
    died = pd.read_parquet(demo_replay / "stays.parquet").set_index("stay_id")["died_90d"]
    last = steps[steps["terminal"]].set_index("stay_id")
    assert (last["reward_sparse"] == np.where(died.loc[last.index], -15, 15)).all()
    assert (last["reward_sofa_shaped"] == last["reward_sparse"]).all()
    between = steps[~steps["terminal"]]
    assert (between["reward_sparse"] == 0).all()
    change = steps.groupby("stay_id")["sofa"].shift(-1) - steps["sofa"]
    np.testing.assert_allclose(between["reward_sofa_shaped"], -0.025 * change[between.index], atol=1e-7)


def test_next_state_is_the_state_of_the_next_step_and_the_last_repeats_its_own(demo_replay):
    frame = pd.concat(
        [pd.read_parquet(demo_replay / f"{s}.parquet") for s in ("train", "validation", "test")]
    )
    states, following = np.stack(frame["state"]), np.stack(frame["next_state"])
    terminal = frame["terminal"].to_numpy()
    np.testing.assert_array_equal(following[terminal], states[terminal])
    rows = np.flatnonzero(~terminal)
    np.testing.assert_array_equal(following[rows], states[rows + 1])
