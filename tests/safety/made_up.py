"""Made-up replays of patients."""

from dataclasses import dataclass, field
from pathlib import Path

from sepsis_cql.replay.records import Source
from sepsis_cql.tests.training.made_up import make_transitions

MIMIC = Source(name="mimic-iv", version="3.1")


@dataclass
class MadeUpReplay:
    """Splits of a replay that has a provenance."""

    validation: object
    test: object
    path: Path = Path("nowhere")
    provenance: object = "made up"
    source: Source = MIMIC
    train: object = field(default_factory=lambda: make_transitions(seed=99))

    def transitions(self, split, reward):
        return getattr(self, split)
