"""What docs/study.md says of whole selections among candidates that are no better is what was measured."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
KINDS = {"all equal to the clinicians": "equal", "all worse": "worse"}


def test_the_table_of_whole_selections_is_the_record():
    record = json.loads((ROOT / "benchmarks/null_candidates.json").read_text(encoding="utf-8"))
    docs = (ROOT / "docs/study.md").read_text(encoding="utf-8")
    for caption, kind in KINDS.items():
        shares = [
            record["kinds"][kind][name] for name in ("praised_where_selected", "endorsed_after_freezing")
        ]
        said = [f"{one['value']:.2f} [{one['lower']:.2f}, {one['upper']:.2f}]" for one in shares]
        assert f"| {caption} | {' | '.join(said)} |" in docs
    assert f"--repetitions {record['repetitions']} " in docs
    for kind in ("candidates", "episodes"):
        assert f"{record[kind]} " in docs
    assert record["kinds"]["equal"]["endorsed_after_freezing"]["value"] <= 0.05
    assert not record["commit"].endswith("-dirty")
