"""How ill the patients were: the scores and comorbidities a build was asked to describe them by."""

from collections.abc import Collection

import duckdb
import pandas as pd

SCORES = {  # concept: its column, and what it is of
    "first_day_sofa": ("sofa", "stay_id"),
    "sapsii": ("sapsii", "stay_id"),
    "oasis": ("oasis", "stay_id"),
    "charlson": ("charlson_comorbidity_index", "hadm_id"),
}
KIDNEY_INJURY = "kdigo_stages"
DESCRIPTIONS = (*SCORES, KIDNEY_INJURY)


def read_severity(
    connection: duckdb.DuckDBPyConnection, stays: pd.DataFrame, concepts: Collection[str]
) -> pd.DataFrame:
    """Return the stays with a column for each concept: its score, or the highest stage charted in the ICU.

    They are indexed by stay_id and have hadm_id; concepts other than `DESCRIPTIONS` are ignored.
    """
    for concept in DESCRIPTIONS:
        if concept not in concepts:
            continue
        if concept == KIDNEY_INJURY:
            query = (
                "select stay_id, max(aki_stage) as stage from kdigo_stages join icustays using (stay_id) "
                "where charttime >= intime group by stay_id"
            )
            column, key = "stage", "stay_id"
        else:
            column, key = SCORES[concept]
            query = f"select {key}, {column} from {concept}"
        found = connection.execute(query).df().set_index(key)[column].astype(float)
        keys = stays.index if key == "stay_id" else stays[key]
        stays = stays.assign(**{concept: found.reindex(keys).to_numpy()})
    return stays
