"""The made-up patient that ships with the package."""

from sepsis_cql.common.strict import Settings, load_shipped
from sepsis_cql.replay.settings import Features


class ExamplePatient(Settings):
    """`configs/example_patient.yaml`: values measured in the 4 hours before a step, None where nothing was."""

    example_patient: dict[str, float | None]


def example_patient(step_hours: int = 4) -> dict[str, float | None]:
    """Return one made-up step of a patient in septic shock, by the names and in the units of the feature extractor.

    `pf_ratio` and `shock_index` are left out, because the feature extractor computes them.

    Args:
        step_hours: of the package; sums over a step are of so many hours, `urine_output_4h` by default.
    """
    patient = load_shipped(ExamplePatient, "example_patient.yaml").example_patient
    features = load_shipped(Features, "features.yaml").features
    sums = {name: hours for name in patient if (hours := features[name].per_hours) is not None}
    return {
        f"{name.removesuffix(f'_{sums[name]}h')}_{step_hours}h" if name in sums else name: (
            value * step_hours / sums[name] if name in sums and value is not None else value
        )
        for name, value in patient.items()
    }
