"""Score one patient row with the packaged network: value of 25 treatments, and what the policy would choose.

    python examples/score_a_row.py [PACKAGE]

PACKAGE is a directory or a Hub id; the checkout itself by default. Research only: this is what a policy learned from
records would have chosen, never a recommendation for a patient.
"""

import sys
from pathlib import Path

from transformers import AutoFeatureExtractor, AutoModel

PACKAGE = sys.argv[1] if sys.argv[1:] else str(Path(__file__).resolve().parents[1])
ROW = {  # a made-up patient in septic shock; None where nothing was measured in the 4 hours before
    "heart_rate": 118, "map": 58, "sbp": 84, "dbp": 46, "resp_rate": 28, "temperature": 38.9, "spo2": 91,
    "gcs_total": 13, "fio2_vent": 0.6, "peep": 8, "pao2": 72, "paco2": 34, "arterial_ph": 7.24, "bicarbonate": 15,
    "base_excess": -9, "lactate": 5.4, "creatinine": 2.3, "bun": 41, "bilirubin_total": 1.8, "albumin": None,
    "sodium": 134, "potassium": 4.9, "glucose": 182, "inr": 1.7, "ptt": 41, "wbc": 19.5, "haemoglobin": 9.8,
    "haematocrit": 30.1, "platelets": 96, "cum_iv_fluid_ml": 2750, "cum_vasopressor_dose_nor_equiv": 0.4,
    "urine_output_4h": 60, "age_years": 71, "weight_kg": 82, "pf_ratio": 120, "shock_index": 1.4,
    "hours_since_onset": 4,
}  # fmt: skip

model = AutoModel.from_pretrained(PACKAGE, trust_remote_code=True)
extractor = AutoFeatureExtractor.from_pretrained(PACKAGE, trust_remote_code=True)
states = extractor(ROW, return_tensors="pt")["states"]  # (1, 62) in clinical units
q_values = model(states).q_values[0]  # (25,) expected discounted return
for action in q_values.argsort(descending=True)[:3].tolist():
    treatment = model.decode_action(action)
    print(f"value {q_values[action]:6.2f}: vasopressor {treatment.vasopressor}, fluid {treatment.fluid}")
print("Research only; not for the care of any patient.")
