"""Latent organ dysfunction of simulated patients, and how fluid and vasopressor move it."""

from dataclasses import dataclass, fields

import numpy as np

from sepsis_cql.synthetic.settings import Organ, PatientSettings, PhysiologySettings

ORGANS = ("kidney", "lung", "liver", "brain")
QUALIFYING = ("creatinine", "platelets", "bilirubin_total")  # one of them is abnormal at every onset


@dataclass(frozen=True)
class Patients:
    """What does not change during an episode; every array is (n,).

    Attributes:
        age: years, 91 for the oldest.
        weight: kg on admission.
        healthy_pressure: mean arterial pressure in health, mmHg.
        clearance: share of the infection that remains a step later.
        insult: infection that begins at onset.
        onset_step: whole ICU steps before onset.
        minutes_before_grid: minutes in the ICU before the first step.
        fluid_before_icu: mL.
        qualifying: index in `QUALIFYING` of the laboratory value abnormal at onset.
    """

    age: np.ndarray
    weight: np.ndarray
    healthy_pressure: np.ndarray
    clearance: np.ndarray
    insult: np.ndarray
    onset_step: np.ndarray
    minutes_before_grid: np.ndarray
    fluid_before_icu: np.ndarray
    qualifying: np.ndarray


@dataclass(frozen=True)
class Latent:
    """The unseen state, arrays of (n,): all zero in health, organ dysfunction from 0 to 3.

    `deficit` and `edema` are litres, `pressure` mmHg, `perfusion` the debt of recent steps, `vasopressor` the
    dose that acts, which follows the dose given, mcg/kg/min.
    """

    infection: np.ndarray
    tone: np.ndarray
    deficit: np.ndarray
    edema: np.ndarray
    kidney: np.ndarray
    lung: np.ndarray
    liver: np.ndarray
    brain: np.ndarray
    pressure: np.ndarray
    perfusion: np.ndarray
    vasopressor: np.ndarray

    @property
    def organs(self) -> np.ndarray:
        """Return the (n,) summed organ dysfunction."""
        return self.kidney + self.lung + self.liver + self.brain

    def where(self, condition: np.ndarray, other: "Latent") -> "Latent":
        """Return rows of `self` where `condition` holds, else of `other`."""
        return Latent(
            *(np.where(condition, getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        )


def admit(
    n: int, settings: PatientSettings, clearance: tuple[float, float], minutes: tuple[int, int],
    insult: tuple[float, float], rng: np.random.Generator,
) -> Patients:  # fmt: skip
    """Draw `n` patients; `insult` is mean and deviation of the log of their infection at onset."""
    age = np.clip(np.round(rng.normal(settings.age.mean, settings.age.sd, n)), 18, 89)
    volume = np.maximum(50, 50 * np.round(rng.exponential(settings.fluid_before_icu.mean, n) / 50))
    return Patients(
        age=np.where(rng.random(n) < settings.age.oldest_share, 91, age),
        weight=np.round(np.clip(rng.normal(settings.weight.mean, settings.weight.sd, n), 40, 180), 1),
        healthy_pressure=np.clip(rng.normal(settings.pressure.mean, settings.pressure.sd, n), 74, 100),
        clearance=rng.uniform(*clearance, n),
        insult=np.clip(rng.lognormal(*insult, n), 0.2, 3.0),
        onset_step=rng.choice(len(settings.steps_before_onset), n, p=settings.steps_before_onset),
        minutes_before_grid=rng.integers(*minutes, n, endpoint=True),
        fluid_before_icu=np.where(rng.random(n) < settings.fluid_before_icu.share, volume, 0),
        qualifying=rng.integers(0, len(QUALIFYING), n),
    )


def healthy(patients: Patients) -> Latent:
    """Return the latent state before onset."""
    zero = np.zeros(len(patients.age))
    return Latent(**{f.name: zero for f in fields(Latent)} | {"pressure": patients.healthy_pressure})


def strike(
    latent: Latent, patients: Patients, settings: PhysiologySettings, rng: np.random.Generator
) -> Latent:
    """Return the latent state when sepsis begins: infection, lost tone, volume deficit, first organ dysfunction."""
    n = len(patients.age)
    tone = settings.tone.onset * patients.insult * rng.uniform(0.4, 1.4, n)
    deficit = np.maximum(0, rng.gamma(2, settings.deficit.onset / 2, n) - patients.fluid_before_icu / 4000)
    organs = {name: rng.gamma(2, getattr(settings, name).onset / 2, n) * patients.insult for name in ORGANS}
    values = {"infection": patients.insult, "tone": tone, "deficit": deficit, "edema": latent.edema, **organs}
    values |= {"perfusion": 0.4 * tone, "vasopressor": latent.vasopressor}
    pressure = _pressure(patients, tone, deficit, latent.vasopressor, settings)
    return Latent(**values, pressure=pressure)


def progress(
    latent: Latent, patients: Patients, vasopressor: np.ndarray, fluid: np.ndarray,
    settings: PhysiologySettings, rng: np.random.Generator,
) -> Latent:  # fmt: skip
    """Return the latent state after a 4-hour step of treatment.

    Args:
        latent: at the start of the step.
        patients: whose it is.
        vasopressor: (n,) norepinephrine equivalent during the step, mcg/kg/min.
        fluid: (n,) volume given in the step, mL.
        settings: of the dynamics.
        rng: source of the noise.
    """
    n = len(fluid)
    litres = fluid / 1000
    leak = settings.deficit.leak * latent.infection + settings.deficit.noise * rng.standard_normal(n)
    balance = latent.deficit + leak - settings.deficit.filled * litres
    deficit = np.clip(balance, 0, 3)
    edema = settings.edema.kept * latent.edema + np.maximum(0, -balance) + settings.edema.share * litres
    pull = settings.tone.gain * (settings.tone.onset * latent.infection - latent.tone)
    tone = np.maximum(0, latent.tone + pull + settings.tone.noise * latent.infection * rng.standard_normal(n))
    acting = settings.pressure.kept * latent.vasopressor + (1 - settings.pressure.kept) * vasopressor
    pressure = _pressure(patients, tone, deficit, acting, settings)
    pressure = np.clip(pressure + settings.pressure.noise * rng.standard_normal(n), 35, 140)
    short = settings.shortfall
    shortfall = np.logaddexp(0, (short.target - pressure) / short.width) * short.width / short.scale
    harm = settings.constriction
    causes = {
        "infection": latent.infection,
        "shortfall": shortfall + 0.3 * deficit,
        "constriction": harm.dose * vasopressor
        + np.maximum(0, pressure - harm.above) / harm.scale * (vasopressor > 0),
        "edema": np.maximum(0, edema - settings.edema.tolerated),
    }
    organs = {
        name: _worsen(getattr(latent, name), getattr(settings, name), causes, settings.organ_noise, rng)
        for name in ORGANS
    }
    return Latent(
        infection=latent.infection * patients.clearance,
        tone=tone,
        deficit=deficit,
        edema=np.minimum(edema, 12),
        pressure=pressure,
        perfusion=0.5 * latent.perfusion + shortfall + 0.3 * deficit,
        vasopressor=acting,
        **organs,
    )


def _pressure(
    patients: Patients,
    tone: np.ndarray,
    deficit: np.ndarray,
    vasopressor: np.ndarray,
    settings: PhysiologySettings,
) -> np.ndarray:
    effect = settings.pressure
    raised = effect.gain * vasopressor / (vasopressor + effect.half)
    return patients.healthy_pressure - effect.tone * tone - effect.deficit * deficit + raised


def _worsen(
    dysfunction: np.ndarray,
    organ: Organ,
    causes: dict[str, np.ndarray],
    noise: float,
    rng: np.random.Generator,
) -> np.ndarray:
    gained = sum(getattr(organ, cause) * value for cause, value in causes.items())
    drift = noise * rng.standard_normal(len(dysfunction)) * (causes["infection"] > 0)
    return np.clip(dysfunction * (1 - organ.recovery) + gained + drift, 0, 3)
