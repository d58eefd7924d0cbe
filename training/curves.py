"""The losses of runs, drawn from their log lines."""

import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib

from sepsis_cql.storage import new_file
from sepsis_cql.training.loop import AXES

matplotlib.use("Agg")
from matplotlib import pyplot  # the backend has to be chosen first


def draw_curves(logs: Sequence[Path], file: Path) -> None:
    """One panel for each loss, one line for each run, over epochs; written as PNG.

    Args:
        logs: metrics.jsonl of each run.
        file: the picture.
    """
    runs = [[json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] for log in logs]
    names = [name for name in runs[0][0] if name not in AXES]
    width = 3.2 * len(names)
    figure, panels = pyplot.subplots(1, len(names), figsize=(width, 2.8))
    figure.subplots_adjust(left=0.65 / width, right=1 - 0.15 / width, bottom=0.16, top=0.9, wspace=0.25)
    for panel, name in zip(panels, names, strict=True):
        for run in runs:
            panel.plot([line["epoch"] for line in run], [line[name] for line in run], linewidth=1)
        panel.set_title(name.replace("_", " "), fontsize=9)
        panel.set_xlabel("epoch", fontsize=8)
        panel.tick_params(labelsize=7)
    with new_file(file) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    pyplot.close(figure)
