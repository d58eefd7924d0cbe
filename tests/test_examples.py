"""Every example runs as a program outside the checkout, and says what it promises."""

import runpy
from pathlib import Path

import pytest

from .forked import Fork

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
    program = EXAMPLES / f"{name}.py"
    code, printed = Fork(
        lambda: runpy.run_path(str(program), run_name="__main__"), tmp_path, [program]
    ).wait()
    assert code == 0, printed
    assert SAYS[name] in printed
    assert not list(tmp_path.iterdir())
