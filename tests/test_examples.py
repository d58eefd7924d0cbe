"""Every example runs as a user would run it, outside the checkout, and says what it promises."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SAYS = {
    "add_a_learner": "algorithm sarsa, outputs values",
    "add_an_estimator": "PDIS",
    "evaluate_your_policy": "identified",
    "load_replay": "arrays: states",
    "score_a_row": "Research only",
}


def test_every_example_is_run():
    assert {file.stem for file in EXAMPLES.glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", sorted(SAYS))
def test_an_example_runs(name, tmp_path):
    command = [sys.executable, str(EXAMPLES / f"{name}.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert SAYS[name] in done.stdout
    assert not list(tmp_path.iterdir())
