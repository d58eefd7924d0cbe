"""What nurses chart of a stay: vital signs, coma score, oxygen, ventilator, weight and urine, with their quirks."""

import numpy as np

from sepsis_cql.synthetic.observations import READINGS, Window
from sepsis_cql.synthetic.rendering.roster import NEVER, STEP, Roster
from sepsis_cql.synthetic.rendering.tables import Events
from sepsis_cql.synthetic.settings import RenderingSettings
from sepsis_cql.synthetic.simulator import WEIGHED_EVERY, Episodes

ARTERIAL = {"sbp": 220050, "dbp": 220051, "map": 220052}
ARTERIAL_OTHER = {"sbp": 225309, "dbp": 225310, "map": 225312}
CUFF = {"sbp": 220179, "dbp": 220180, "map": 220181}
SINGLE = {"heart_rate": 220045, "resp_rate": 220210, "spo2": 220277}
FAHRENHEIT, CELSIUS, TOTAL_RATE = 223761, 223762, 224690
EYES, VERBAL, MOTOR = 220739, 223900, 223901
OXYGEN_FRACTION, PEEP, TOTAL_PEEP, VENTILATOR_MODE = 223835, 220339, 224700, 223849
DEVICE, FLOW = 226732, 223834
ADMISSION_KG, ADMISSION_POUNDS, DAILY_KG = 226512, 226531, 224639
FOLEY, IRRIGANT_IN, IRRIGANT_OUT = 226559, 227488, 227489
EYES_TEXT = np.array(["", "No Response", "To Pain", "To Speech", "Spontaneously"], object)
VERBAL_TEXT = np.array(
    ["", "No Response", "Incomprehensible sounds", "Inappropriate Words", "Confused", "Oriented"], object
)
MOTOR_TEXT = np.array(
    ["", "No response", "Abnormal extension", "Abnormal Flexion", "Flex-withdraws", "Localizes Pain",
     "Obeys Commands"], object,
)  # fmt: skip


class Bedside:
    """Collects `chartevents` and `outputevents` of all stays, window by window."""

    def __init__(
        self, roster: Roster, episodes: Episodes, settings: RenderingSettings, rng: np.random.Generator
    ) -> None:
        n = len(roster)
        self.roster, self.episodes, self.rng = roster, episodes, rng
        self.chart, self.output = Events(), Events()
        self.has_line = rng.random(n) < settings.arterial_line
        self.other_line = rng.random(n) < 0.15
        self.in_fraction = rng.random(n) < settings.fraction
        self.irrigated = rng.random(n) < 0.04

    def add_window(self, index: int, window: Window) -> None:
        """Chart the window that ends at step `index`."""
        stays = np.flatnonzero(self.roster.n_steps >= index)
        begin = self.roster.start + STEP * (index - 1)
        jitter = self.rng.integers(15, 45, (len(begin), READINGS))
        times = begin[:, None] + 60 * np.arange(READINGS) + jitter  # (n, 4)
        self._vital_signs(stays, times, window)
        self._coma(stays, times[:, 3], window)
        self._breathing(stays, times, window)
        self._weigh(index, stays, times)
        self._urine(index, stays, times, window)

    def _add(
        self,
        stays: np.ndarray,
        times: np.ndarray,
        itemid: int,
        numbers: np.ndarray,
        *,
        text: np.ndarray | None = None,
    ) -> None:
        """Chart the known `numbers` of `stays`; arrays are (n,) over all stays. One row in ten has no storetime."""
        kept = stays[~np.isnan(numbers[stays])]
        filed = times[kept] + self.rng.integers(0, 10, len(kept))
        filed = np.where(self.rng.random(len(kept)) < 0.1, NEVER, filed)
        words = {} if text is None else {"value": text[kept]}
        self.chart.add(
            kept,
            charttime=times[kept],
            storetime=filed,
            itemid=itemid,
            valuenum=numbers[kept].astype(float),
            **words,
        )

    def _vital_signs(self, stays: np.ndarray, times: np.ndarray, window: Window) -> None:
        lines, cuffs = stays[self.has_line[stays]], stays[~self.has_line[stays]]
        for hour in range(READINGS):
            at = times[:, hour]
            reading = {name: values[:, hour] for name, values in window.readings.items()}
            for name, itemid in SINGLE.items():
                self._add(stays, at, itemid, reading[name])
            for name in ARTERIAL:
                other = self.other_line[lines]
                self._add(lines[~other], at, ARTERIAL[name], reading[name])
                self._add(lines[other], at, ARTERIAL_OTHER[name], reading[name])
                self._add(cuffs, at, CUFF[name], reading[name])
                if hour == 1:  # the cuff beside the line disagrees, and must lose
                    self._add(lines, at, CUFF[name], np.round(reading[name] * 1.08))
            celsius = self.episodes.icu.celsius[stays]
            self._add(stays[celsius], at, CELSIUS, reading["temperature"])
            self._add(stays[~celsius], at, FAHRENHEIT, reading["temperature"])
            breathing = stays[window.ventilated[stays]]
            self._add(breathing, at, TOTAL_RATE, reading["resp_rate"] + 2)
        repeated = stays[self.rng.random(len(stays)) < 0.05]  # charted twice in the same minute
        self._add(repeated, times[:, 2], SINGLE["spo2"], window.readings["spo2"][:, 2])

    def _coma(self, stays: np.ndarray, at: np.ndarray, window: Window) -> None:
        """Three parts whose sum is the score; the verbal part of an intubated patient is text."""
        score = window.values["gcs_total"].astype(np.int64)
        silent = window.ventilated
        eyes = np.clip(score - 7, 1, 4)
        verbal = np.where(silent, 1, np.clip(score - eyes - 4, 1, 5))
        motor = np.where(silent, np.clip(score - 10, 1, 6), score - eyes - verbal)
        spoken = np.where(silent, "No Response-ETT", VERBAL_TEXT[verbal])
        for itemid, part, text in (
            (EYES, eyes, EYES_TEXT[eyes]),
            (VERBAL, verbal, spoken),
            (MOTOR, motor, MOTOR_TEXT[motor]),
        ):
            self._add(stays, at, itemid, part, text=text)

    def _breathing(self, stays: np.ndarray, times: np.ndarray, window: Window) -> None:
        oxygen = stays[window.on_oxygen[stays]]
        ventilated, free = oxygen[window.ventilated[oxygen]], oxygen[~window.ventilated[oxygen]]
        fraction = window.values["fio2_vent"]
        charted = np.where(self.in_fraction, fraction, np.round(100 * fraction))
        for hour in (0, 2):
            self._add(oxygen, times[:, hour], OXYGEN_FRACTION, charted)
        self._add(ventilated, times[:, 2], PEEP, window.values["peep"])
        self._add(ventilated, times[:, 3], TOTAL_PEEP, window.values["peep"] + 1)
        for hour in range(READINGS):
            mode = np.full(len(times), "CMV/ASSIST/AutoFlow", object)
            self._text(ventilated, times[:, hour], VENTILATOR_MODE, mode)
        self._text(free, times[:, 1], DEVICE, np.full(len(times), "Nasal cannula", object))
        self._add(free, times[:, 1], FLOW, np.full(len(times), 4.0))

    def _text(self, stays: np.ndarray, times: np.ndarray, itemid: int, text: np.ndarray) -> None:
        self.chart.add(
            stays,
            charttime=times[stays],
            storetime=times[stays] + 3,
            itemid=itemid,
            valuenum=np.nan,
            value=text[stays],
        )

    def _weigh(self, index: int, stays: np.ndarray, times: np.ndarray) -> None:
        """On admission in kilograms or pounds, then daily."""
        icu = self.episodes.icu
        if index == 0:
            in_pounds = icu.in_pounds[stays]
            self._add(stays[~in_pounds], times[:, 3], ADMISSION_KG, icu.patients.weight)
            self._add(stays[in_pounds], times[:, 3], ADMISSION_POUNDS, icu.pounds)
        elif index % WEIGHED_EVERY == 0 and index < len(self.episodes.weights):
            weighed = stays[self.roster.n_steps[stays] > index]
            self._add(weighed, times[:, 2], DAILY_KG, self.episodes.weights[index])

    def _urine(self, index: int, stays: np.ndarray, times: np.ndarray, window: Window) -> None:
        """Two chartings a window, one in the window of admission; some bladders are irrigated."""
        volume = window.values["urine_output_4h"]
        stays = stays[~np.isnan(volume[stays])]
        early = np.zeros(len(volume)) if index == 0 else 5 * (np.nan_to_num(volume) // 10)
        self._put_out(stays, times[:, 3], FOLEY, volume - early)
        if index > 0:
            self._put_out(stays, times[:, 1], FOLEY, early)
            irrigated = stays[self.irrigated[stays]]
            for itemid in (IRRIGANT_IN, IRRIGANT_OUT):
                self._put_out(irrigated, times[:, 3], itemid, np.full(len(volume), 150.0))

    def _put_out(self, stays: np.ndarray, times: np.ndarray, itemid: int, volume: np.ndarray) -> None:
        self.output.add(
            stays,
            charttime=times[stays],
            storetime=times[stays] + 5,
            itemid=itemid,
            value=volume[stays],
            valueuom="ml",
        )
