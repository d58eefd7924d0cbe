"""A small sepsis simulator in the form of Oberst & Sontag (2019), written from its published description.

Four vital signs, diabetes, and three treatments that are on or off. Treatments move vital signs, vital signs that they
leave alone fluctuate, and more so the glucose of diabetics. Three abnormal vital signs kill; a patient without an
abnormal one and without treatment goes home; whoever is still there after 20 steps has a reward of 0. Clinicians see
all of it and prefer what is worth more. Where glucose and diabetes are withheld, they confound.
"""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from scipy.sparse import csr_array

from sepsis_cql.evaluation.known_truth.icu_sepsis import by_stay, draw
from sepsis_cql.replay.rows.actions import N_ACTIONS
from sepsis_cql.replay.transitions import Transitions

LEVELS = {
    "heart_rate": 3, "pressure": 3, "oxygen": 2, "glucose": 5, "diabetes": 2,
    "antibiotics": 2, "vasopressor": 2, "ventilation": 2,
}  # fmt: skip
VITALS = {"heart_rate": 1, "pressure": 1, "oxygen": 1, "glucose": 2}  # their normal level
CHARTED = (*LEVELS, "step")
SHAPE = tuple(LEVELS.values())
N_STATES = int(np.prod(SHAPE))
STATES = np.stack(np.unravel_index(np.arange(N_STATES), SHAPE), axis=1)  # (S, 8) levels
TREATMENTS = np.array([[a, v, o] for v in (0, 1) for o in (0, 1) for a in (0, 1)])  # (8, 3) of each action
ACTIONS = (
    5 * TREATMENTS[:, 1] + TREATMENTS[:, 0] + 2 * TREATMENTS[:, 2]
)  # (8,) their place among the 25 doses
HORIZON = 20  # steps
DIABETIC = 0.2  # of patients
FLUCTUATES, GLUCOSE_FLUCTUATES = 0.1, 0.3  # chance to rise, and to fall, in one step; of diabetics' glucose
FATAL = 3  # abnormal vital signs
TEMPERATURE = 1.0  # of the clinicians' preference, in units of reward
INITIAL = {
    "heart_rate": [0.25, 0.5, 0.25], "pressure": [0.25, 0.5, 0.25], "oxygen": [0.2, 0.8],
}  # fmt: skip
GLUCOSE = [
    [0.01, 0.05, 0.88, 0.05, 0.01],
    [0.05, 0.15, 0.60, 0.15, 0.05],
]  # at first, without and with diabetes


@dataclass(frozen=True)
class SepsisSimulator:
    """The process with its clinicians.

    Attributes:
        gamma: discount of one step.
        bound: reward of going home, less for death.
        withheld: columns of the state that are not charted.
        blind: clinicians do not see them either.
    """

    gamma: float
    bound: float
    withheld: tuple[str, ...] = ()
    blind: bool = False

    @cached_property
    def abnormal(self) -> np.ndarray:
        """(S,) number of abnormal vital signs."""
        names = list(LEVELS)
        return np.sum([STATES[:, names.index(name)] != level for name, level in VITALS.items()], axis=0)

    @cached_property
    def reward(self) -> np.ndarray:
        """(S,) on arrival."""
        return self.bound * (self.is_home.astype(float) - (self.abnormal >= FATAL))

    @cached_property
    def is_home(self) -> np.ndarray:
        """(S,) whether a patient in it goes home."""
        return (self.abnormal == 0) & (STATES[:, -3:].sum(axis=1) == 0)

    @cached_property
    def terminal(self) -> np.ndarray:
        """(S,) whether an episode ends there."""
        return self.is_home | (self.abnormal >= FATAL)

    @property
    def transition(self) -> np.ndarray:
        """(S, 8, S) probabilities."""
        return _transition()

    @cached_property
    def initial(self) -> np.ndarray:
        """(S,) probabilities of the first state: untreated, and neither dead nor home."""
        chance = self._at_first * (STATES[:, -3:].sum(axis=1) == 0) * ~self.terminal
        return np.asarray(chance / chance.sum())

    @cached_property
    def _at_first(self) -> np.ndarray:
        """(S,) chance of the first vital signs and diabetes, whatever the treatment."""
        chance = (
            np.array([1 - DIABETIC, DIABETIC])[STATES[:, 4]] * np.array(GLUCOSE)[STATES[:, 4], STATES[:, 3]]
        )
        for column, shares in enumerate(INITIAL.values()):
            chance = chance * np.array(shares)[STATES[:, column]]
        return np.asarray(chance)

    @cached_property
    def full_q(self) -> np.ndarray:
        """(S, 8) values of acting optimally on everything, without an end after 20 steps."""
        values, settled = np.zeros(N_STATES), False
        while not settled:
            q_values = _expect(self.reward + self.gamma * values * ~self.terminal)
            settled = bool(np.abs(q_values.max(axis=1) - values).max() < 1e-4)
            values = q_values.max(axis=1)
        return np.asarray(q_values)

    @cached_property
    def physicians(self) -> np.ndarray:
        """(S, 8) what clinicians do."""
        preference = np.exp((self.full_q - self.full_q.max(axis=1, keepdims=True)) / TEMPERATURE)
        seen = preference / preference.sum(axis=1, keepdims=True)
        return self._seen_by_all(seen)[self.visible] if self.blind else seen

    @cached_property
    def visible(self) -> np.ndarray:
        """(S,) number of the charted state that each state looks like."""
        return np.asarray(np.unique(STATES[:, self._charted[:-1]], axis=0, return_inverse=True)[1]).ravel()

    @property
    def _charted(self) -> list[int]:
        return [index for index, name in enumerate(CHARTED) if name not in self.withheld]

    def _seen_by_all(self, values: np.ndarray) -> np.ndarray:
        """(V, 8) mean of (S, 8) values over the states that look alike, as often as they are met at first."""
        weight = self._at_first
        sums = np.zeros((self.visible.max() + 1, values.shape[1]))
        np.add.at(sums, self.visible, values * weight[:, None])
        return np.asarray(sums / np.bincount(self.visible, weights=weight)[:, None])

    @cached_property
    def clinicians(self) -> np.ndarray:
        """(V, 25) what clinicians do in a charted state; on average where they see more."""
        return _widen(self._seen_by_all(self.physicians))

    @cached_property
    def optimal_q(self) -> np.ndarray:
        """(V, 25) values of acting optimally; the mean of states that look alike, the least for what is not given."""
        return _widen(self._seen_by_all(self.full_q), fill=-self.bound)

    @property
    def clinicians_value(self) -> float:
        """Exact value of the clinicians."""
        return self._value(self.physicians)

    def true_value(self, policy: np.ndarray) -> float:
        """Return the exact value of (V, 25) action probabilities that are positive for the eight actions only."""
        return self._value(policy[:, ACTIONS][self.visible])

    def _value(self, policy: np.ndarray) -> float:
        values = np.zeros(N_STATES)
        for _ in range(HORIZON):
            following = self.reward + self.gamma * values * ~self.terminal
            values = (policy * _expect(following)).sum(axis=1)
        return float(self.initial @ values)

    def simulate(self, n_episodes: int, seed: int) -> Transitions:
        """Draw episodes treated by the clinicians."""
        rng = np.random.default_rng(seed)
        ids, state = np.arange(n_episodes), rng.choice(N_STATES, n_episodes, p=self.initial)
        steps = []
        for step in range(HORIZON):
            action = draw(self.physicians[state].cumsum(axis=1), rng)
            arrived = draw(self.transition[state, action].cumsum(axis=1), rng)
            ends = self.terminal[arrived] | (step == HORIZON - 1)
            steps.append((ids, np.full(len(ids), step), state, action, self.reward[arrived], ends))
            ids, state = ids[~ends], arrived[~ends]
        stay, index, state, action, reward, ends = by_stay(steps)
        charted = np.column_stack([STATES[state], index])[:, self._charted].astype(np.float32)
        return Transitions(
            states=charted,
            actions=ACTIONS[action].astype(np.int64),
            rewards=reward,
            next_states=np.where(ends[:, None], charted, np.roll(charted, -1, axis=0)),
            terminals=ends,
            stay_id=stay,
            subject_id=stay,
            step_index=index,
            state_names=tuple(CHARTED[column] for column in self._charted),
            normalized=True,
        )

    def state_index(self, states: np.ndarray) -> np.ndarray:
        """Return the (n,) number of the charted state that each row is."""
        charted, shape = self._charted[:-1], [SHAPE[column] for column in self._charted[:-1]]
        levels = states[:, : len(charted)].round().astype(int)
        return np.asarray(np.ravel_multi_index(tuple(levels.T), tuple(shape)))

    @cached_property
    def charted_states(self) -> np.ndarray:
        """(V, d) every charted state in the order of their numbers, half way through the stay."""
        rows = np.unique(STATES[:, self._charted[:-1]], axis=0)
        return np.column_stack([rows, np.full(len(rows), HORIZON / 2)]).astype(np.float32)

    def inputs(self, states: np.ndarray) -> np.ndarray:
        """Return a column for each level but the first of each charted quantity, and the step, as float32."""
        shape = [SHAPE[column] for column in self._charted[:-1]]
        columns = [states[:, [i]] == np.arange(1, size) for i, size in enumerate(shape)]
        return np.concatenate([*columns, states[:, -1:] / HORIZON], axis=1).astype(np.float32)


@cache
def _transition() -> np.ndarray:
    """(S, 8, S) probabilities, the same for every simulator."""
    found = np.zeros((N_STATES, len(TREATMENTS), *SHAPE), dtype=np.float32)
    for state, levels in enumerate(STATES):
        for action, treatment in enumerate(TREATMENTS):
            rate, pressure, oxygen, glucose = _moves(levels, treatment)
            vitals = np.multiply.outer(np.multiply.outer(rate, pressure), np.multiply.outer(oxygen, glucose))
            found[state, action, ..., levels[4], treatment[0], treatment[1], treatment[2]] = vitals
    return found.reshape(N_STATES, len(TREATMENTS), N_STATES)


@cache
def _sparse_transition() -> csr_array:
    """(S * 8, S) the same, of which one entry in fifty is positive."""
    return csr_array(_transition().reshape(-1, N_STATES).astype(np.float64))


def _expect(values: np.ndarray) -> np.ndarray:
    """(S, 8) mean of (S,) values where an action leads."""
    return np.asarray(_sparse_transition() @ values).reshape(N_STATES, -1)


def _moves(levels: np.ndarray, treatment: np.ndarray) -> tuple[np.ndarray, ...]:
    """Probabilities of the next level of heart rate, pressure, oxygen and glucose."""
    rate, pressure, oxygen, glucose, diabetic, had_antibiotics, had_vasopressor, had_ventilation = levels
    antibiotics, vasopressor, ventilation = treatment
    calms = {(2, 1): 0.5} if antibiotics else {(1, 2): 0.1} if had_antibiotics else {}
    breathes = {(0, 1): 0.7} if ventilation else {(1, 0): 0.1} if had_ventilation else {}
    sweetens = {(level, level + 1): 0.5 for level in range(4)} if vasopressor and diabetic else {}
    presses: dict[tuple[int, int], float] = {}
    if vasopressor:
        presses = {(0, 1): 0.5, (0, 2): 0.4, (1, 2): 0.9} if diabetic else {(0, 1): 0.7, (1, 2): 0.7}
    elif had_vasopressor:
        presses = {(1, 0): 0.05, (2, 1): 0.05} if diabetic else {(1, 0): 0.1, (2, 1): 0.1}
    return (
        _move(3, rate, [calms], FLUCTUATES),
        _move(3, pressure, [calms, presses], FLUCTUATES),
        _move(2, oxygen, [breathes], FLUCTUATES),
        _move(5, glucose, [sweetens], GLUCOSE_FLUCTUATES if diabetic else FLUCTUATES),
    )


def _move(n: int, level: int, effects: list[dict[tuple[int, int], float]], chance: float) -> np.ndarray:
    """(n,) probabilities of the next level: treatments one after the other, then chance where they left it alone."""
    found = np.eye(n)[level]
    for effect in effects:
        changed = found.copy()
        for (before, after), probability in effect.items():
            changed[before] -= found[before] * probability
            changed[after] += found[before] * probability
        found = changed
    stays = found[level]
    for after in (level - 1, level + 1):
        if 0 <= after < n:
            found[after] += stays * chance
            found[level] -= stays * chance
    return np.asarray(found)


def _widen(values: np.ndarray, fill: float = 0.0) -> np.ndarray:
    """(V, 25) of the 8 actions, with `fill` for doses that there are not."""
    wide = np.full((len(values), N_ACTIONS), fill)
    wide[:, ACTIONS] = values
    return wide
