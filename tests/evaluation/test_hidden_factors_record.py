"""The table of docs/decisions/0009-fairer-rules.md is what `benchmarks/hidden_factors.py` measured."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
RULES = ("none", "worst case", "1 x strongest", "2 x strongest", "3 x strongest", "1 x group", "2 x group")
KINDS = {"power": "truly better", "wrong": "not better"}


def test_the_table_of_fairer_rules_is_the_record():
    record = json.loads((ROOT / "benchmarks/hidden_factors.json").read_text(encoding="utf-8"))
    docs = (ROOT / "docs/decisions/0009-fairer-rules.md").read_text(encoding="utf-8")
    for name, case in record["cases"].items():
        for kind, caption in KINDS.items():
            if case[f"of_{kind}"]:
                shares = " | ".join(f"{case[kind][rule]['value']:.2f}" for rule in RULES)
                row = f"| {name} | {case['repetitions']} | {case[f'of_{kind}']} {caption} | {shares} |"
                assert row in docs
    assert f"| {' | '.join(RULES)} |" in docs
    assert not record["commit"].endswith("-dirty")
    assert all(
        case["wrong"].get("worst case", {"value": 0})["value"] == 0 for case in record["cases"].values()
    )
