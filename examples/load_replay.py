"""Build a small replay from simulated tables and load it: as arrays, as a `datasets.DatasetDict`, as pandas.

    python examples/load_replay.py

With credentialed tables the first step falls away: `build_replay(mimic_root, out, load_build_settings())`. Replay
directories hold rows of patients then: they stay private to their owner, and publishing refuses them.
"""

import tempfile
from pathlib import Path

import pandas as pd

from sepsis_cql.replay.build import build_replay
from sepsis_cql.replay.directory import ReplayDirectory
from sepsis_cql.replay.interop.huggingface import load_replay
from sepsis_cql.replay.settings import load_build_settings
from sepsis_cql.synthetic.rendering.render import synthesize
from sepsis_cql.synthetic.settings import load_synthetic_settings

with tempfile.TemporaryDirectory() as folder:
    tables, out = Path(folder) / "tables", Path(folder) / "replay"
    synthesize(tables, 200, 1, load_synthetic_settings())
    report = build_replay(tables, out, load_build_settings(changes={"onset_rule": "sofa_time"}))
    print(
        f"{report.cohort.episodes} episodes, {report.cohort.transitions} transitions of {report.source.name} tables"
    )

    replay = ReplayDirectory(out)
    train = replay.transitions("train", "sparse")
    print(f"arrays: states {train.states.shape}, actions {train.actions.shape}, {train.n_episodes} stays")
    print(f"normalized inputs: {replay.statistics.normalizer(train.states).shape}, no NaN")

    splits = load_replay(out, "sofa_shaped")
    print(f"datasets: {splits.num_rows}; action 7 is {splits['train'].features['action'].int2str(7)!r}")

    stays = pd.read_parquet(out / "stays.parquet")
    print(f"pandas: {stays['died_90d'].mean():.0%} of {len(stays)} stays died by day 90")
