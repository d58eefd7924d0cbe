from pathlib import Path

import pandas as pd
import pytest

from sepsis_cql.common.errors import SettingsError
from sepsis_cql.common.strict import load_shipped, read_yaml
from sepsis_cql.replay.mimic.raw_files import TablesSettings
from sepsis_cql.replay.settings import Features, Fluids, ReplaySettings, load_build_settings

from .made_up import build_settings

SHIPPED = Path(__file__).parents[2] / "configs"
FEATURES = load_shipped(Features, "features.yaml")
FLUIDS = load_shipped(Fluids, "fluids.yaml")


@pytest.fixture(scope="module")
def facts(shared):
    return pd.read_csv(shared / "clinical" / "features.csv", dtype=str).set_index("feature")


def test_state_columns_are_the_published_62_in_their_order(state_order):
    assert list(FEATURES.state_names) == state_order["state_order"]
    assert set(FEATURES.flags) == set(state_order["missing_flags"])


def test_item_ids_are_those_of_the_clinical_facts(facts):
    for name, feature in FEATURES.features.items():
        listed = {int(itemid) for itemid in str(facts.loc[name, "itemids"]).split("|") if itemid.isdigit()}
        found = {itemid for itemids in feature.items.values() for itemid in itemids}
        extra = {"fio2_vent": {50816}, "bicarbonate": {50803}, "weight_kg": {226531}, "pf_ratio": found}
        if found:
            assert found == listed | extra.get(name, set()), name


def test_clip_bounds_are_the_published_ones_but_for_age_and_saturation(facts):
    bounds = facts["earlier_clip"].str.split(r"\.\.", expand=True).astype(float)
    changed = {
        name: feature.clip
        for name, feature in FEATURES.features.items()
        if feature.clip != tuple(bounds.loc[name])
    }
    assert changed == {"age_years": (18, 91), "spo2": (0, 100)}


def test_a_build_reads_every_item_of_its_features_and_fluids():
    read = load_shipped(TablesSettings, "tables.yaml").with_items(load_build_settings().items).tables
    for name, feature in FEATURES.features.items():
        for source, itemids in feature.items.items():
            assert set(itemids) <= set(read[source].itemids), name
    assert {*FLUIDS.resuscitation, *FLUIDS.before_icu} <= set(read["inputevents"].itemids)


def test_labels_of_the_fluids_are_the_official_ones(mimic_demo):
    labels = pd.read_csv(mimic_demo / "icu" / "d_items.csv.gz").set_index("itemid")["label"]
    ours = {itemid: fluid.label for itemid, fluid in FLUIDS.resuscitation.items()} | FLUIDS.before_icu
    assert ours == {itemid: labels[itemid] for itemid in ours}


def test_every_shipped_setting_is_valid():
    assert build_settings().replay.model_dump().keys() == read_yaml(SHIPPED / "replay.yaml").keys()


def test_the_record_of_a_build_before_a_setting_is_written_as_it_was():
    written = build_settings().replay.model_dump(mode="json")
    for name in ("septic_shock", "carry_forward", "partial_window_urine"):
        del written[name]
    record = ReplaySettings.model_validate(written, strict=False)
    assert (record.septic_shock, record.carry_forward) == (False, "unlimited")
    assert record.model_dump(mode="json") == written


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"onset_rule": "first_antibiotic"}, "onset_rule"),
        ({"step_hours": 5}, "hours_before must be a multiple of step_hours"),
        ({"split_shares": {"train": 0.7, "validation": 0.2, "test": 0.2}}, "must sum to 1"),
        ({"mortality_days": 0}, "mortality_days"),
        ({"alignement": "causal"}, "alignement: Extra inputs"),
    ],
)
def test_a_wrong_setting_is_named(changes, message):
    with pytest.raises(SettingsError, match=message):
        load_shipped(ReplaySettings, "replay.yaml", changes)
