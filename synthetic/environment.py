"""The simulated ICU as a gymnasium environment: one stay, 4-hour steps, 25 actions.

After `import sepsis_cql`, `gymnasium.make("sepsis_cql/SepsisICU-v0")` makes one; the name
`sepsis_cql:sepsis_cql/SepsisICU-v0` imports the package by itself. `gymnasium.make_vec` makes several stays that
advance together, and `render_mode="ansi"` gives what is known as text.
"""

from typing import Any

import gymnasium
import numpy as np

from sepsis_cql.common.strict import load_shipped
from sepsis_cql.replay.rows.actions import N_ACTIONS, ActionGrid
from sepsis_cql.replay.settings import Features, ReplaySettings
from sepsis_cql.synthetic.settings import SyntheticSettings, load_synthetic_settings
from sepsis_cql.synthetic.simulator import SimulatedICU

SHOWN = (
    "hours_since_onset", "map", "heart_rate", "spo2", "lactate", "creatinine", "urine_output_4h", "gcs_total",
)  # fmt: skip


class SepsisEnv(gymnasium.Env[np.ndarray, np.int64]):
    """One simulated stay.

    The observation holds the 62 state features in clinical units; because an environment may not observe
    NaN, a feature nobody has measured yet shows its mid-normal value; `state` is the same with NaN, as the
    replay has it. Actions are 5 * vasopressor bin + fluid bin. The only reward comes with the
    last step: +15 if the patient is alive on day 90, else -15. `info` also gives the doses of the step.

    Args:
        settings: of the simulator; the shipped ones by default.
        grid: dose edges of the action bins; those of the settings by default.
        render_mode: "ansi" for `render`, None for none.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012

    def __init__(
        self,
        settings: SyntheticSettings | None = None,
        grid: ActionGrid | None = None,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise gymnasium.error.UnsupportedMode(
                f"render_mode: found {render_mode!r}, expected 'ansi' or None."
            )
        self.render_mode = render_mode
        self.doses = ""
        self.settings = settings or load_synthetic_settings()
        edges = self.settings.action_grid
        self.grid = grid or ActionGrid(tuple(edges.vasopressor_edges), tuple(edges.fluid_edges))
        self.action_space = gymnasium.spaces.Discrete(N_ACTIONS)
        self.features = load_shipped(Features, "features.yaml")
        self.terminal_reward = load_shipped(ReplaySettings, "replay.yaml").terminal_reward
        n_states = len(self.features.state_names)
        self.observation_space = gymnasium.spaces.Box(-1e5, 1e5, (n_states,), np.float32)
        self.icu: SimulatedICU | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Admit the next patient; `options` are not used."""
        super().reset(seed=seed)
        self.icu = SimulatedICU(self.settings, 1, int(self.np_random.integers(2**63)))
        self.doses = "admitted"
        return self._observe(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Give the doses of `action` for 4 hours; an episode ends, it is never truncated.

        Raises:
            gymnasium.error.InvalidAction: the action is not a whole number from 0 to 24.
            gymnasium.error.ResetNeeded: no patient is admitted.
        """
        if not self.action_space.contains(action):
            raise gymnasium.error.InvalidAction(
                f"action: found {action!r}, expected a whole number from 0 to {N_ACTIONS - 1} "
                "(5 * vasopressor bin + fluid bin)."
            )
        if self.icu is None or not self.icu.active[0]:
            raise gymnasium.error.ResetNeeded(
                "The episode is over (expected one that runs): call reset() first."
            )
        icu = self.icu
        vasopressor, fluid = icu.clinicians.doses_of(np.array([action]), icu.states, self.grid, icu.rng)
        over = bool(icu.step(vasopressor, fluid)[0])
        reward = 0.0
        if over:
            reward = -self.terminal_reward if icu.died[0] else self.terminal_reward
        doses = {"norepinephrine_equivalent": float(vasopressor[0]), "fluid_volume": float(fluid[0])}
        self.doses = f"norepinephrine {vasopressor[0]:.2f} mcg/kg/min, fluid {fluid[0]:.0f} mL"
        return self._observe(), reward, over, False, doses

    def render(self) -> str | None:
        """Return what was given in the last step and what is known now, as one line; None without a render mode."""
        if self.render_mode is None:
            return None
        known = dict(zip(self.features.state_names, self.state, strict=True))
        parts = [f"{name} {known[name]:.4g}" for name in SHOWN if not np.isnan(known[name])]
        return f"{self.doses} | {', '.join(parts)}"

    @property
    def state(self) -> np.ndarray:
        """Return the (62,) state in clinical units, NaN where nothing is known."""
        if self.icu is None:
            raise gymnasium.error.ResetNeeded("No patient is admitted: call reset() first.")
        return self.icu.states[0]

    def _observe(self) -> np.ndarray:
        normal = [
            0.0 if name.endswith("_missing") else self.features.features[name].normal
            for name in self.features.state_names
        ]
        return np.where(np.isnan(self.state), normal, self.state).astype(np.float32)
