"""Add a learner, SARSA: its settings and loss in one file, one YAML, one line.

    python examples/add_a_learner.py

The learner regresses Q-values on the dose that followed, and so values the clinicians' own policy. Its settings, its
loss and its registration are all there is to write: batches, Adam, checkpoints, resuming, packages, sweeps and
evaluation come from the package. In the package itself the class would be `training/learners/sarsa.py`, the settings
`configs/sarsa.yaml`, and the last step one line of `LEARNERS`.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from sepsis_cql.checkpoints.hub_package import load_package
from sepsis_cql.replay.build import build_replay
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.replay.settings import load_build_settings
from sepsis_cql.synthetic.rendering.render import synthesize
from sepsis_cql.synthetic.settings import load_synthetic_settings
from sepsis_cql.training.devices import load_runtime
from sepsis_cql.training.learners.base import Learner, Losses
from sepsis_cql.training.learners.registry import LEARNERS, load_training_settings
from sepsis_cql.training.run import train_from_replay
from sepsis_cql.training.settings import TrainingSettings

SETTINGS = """\
algorithm: sarsa
gamma: 0.99
learning_rate: 0.001
batch_size: 256
epochs: 20
grad_clip: 10.0
hidden_sizes: [64, 64]
seed: 1
checkpoint_epochs: 10
keep_checkpoints: 1
"""


class SarsaSettings(TrainingSettings):
    """What sarsa.yaml holds beyond the settings of every learner."""

    algorithm: Literal["sarsa"]
    gamma: float = Field(ge=0, le=1)


class Sarsa(Learner):
    """Value of the clinicians' own policy, r + gamma Q(s', a') with the dose a' that followed."""

    settings = SarsaSettings
    outputs = "values"

    def prepare(self, settings: Sequence[SarsaSettings]) -> None:
        """Take the discount and compute the first targets."""
        self._gamma = settings[0].gamma
        self.end_epoch(0)

    def losses(self, outputs: Tensor, rows: Tensor) -> Losses:
        """Mean squared Bellman error of the doses that were given."""
        given = outputs.gather(-1, self.buffer.actions[rows].unsqueeze(-1)).squeeze(-1)
        return {"total_loss": (given - self._targets.gather(-1, rows)).square().mean(dim=-1)}

    def end_epoch(self, epoch: int) -> None:
        """Value the next state by the dose that was given there; transitions are in order of stay and step."""
        q_values = self.network.outputs_with(self.network.weights, self.buffer.next_states)  # (..., n, 25)
        following = self.buffer.actions.roll(-1).expand(q_values.shape[:-1]).unsqueeze(-1)
        ahead = q_values.gather(-1, following).squeeze(-1).masked_fill(self.buffer.terminals, 0.0)
        self._targets = self.rewards + self._gamma * ahead

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue where the checkpoint was taken; it was taken after the epoch's targets were made."""
        super().load_state_dict(state)
        self.end_epoch(0)


LEARNERS["sarsa"] = Sarsa

if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sarsa.yaml").write_text(SETTINGS)
        synthesize(folder / "tables", 200, 1, load_synthetic_settings())
        build_replay(folder / "tables", folder / "replay", load_build_settings())
        settings = load_training_settings(folder / "sarsa.yaml", {"seed": 2})
        record = train_from_replay(
            open_replay(folder / "replay"), folder / "run", settings, load_runtime(None)
        )
        model = load_package(folder / "run" / "package")
        print(
            f"{record.settings.algorithm}: {record.global_step} steps, loss {record.losses['total_loss']:.2f}"
        )
        print(f"the package says: algorithm {model.config.algorithm}, outputs {model.config.outputs}")
        print(f"its checkpoint is {next((folder / 'run' / 'model').glob('*.pt')).name}")
