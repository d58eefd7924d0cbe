"""The made-up patient that ships with the package."""

from sepsis_cql.common.strict import Settings, load_shipped


class ExamplePatient(Settings):
    """`configs/example_patient.yaml`: values measured in the 4 hours before a step, None where nothing was."""

    example_patient: dict[str, float | None]


def example_patient() -> dict[str, float | None]:
    """Return one made-up step of a patient in septic shock, by the names and in the units of the feature extractor.

    `pf_ratio` and `shock_index` are left out, because the feature extractor computes them.
    """
    return load_shipped(ExamplePatient, "example_patient.yaml").example_patient
