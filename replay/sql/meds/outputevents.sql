select
    subject_id,
    hadm_id,
    icustay_id as stay_id,
    "time" as charttime,
    "time" as storetime,
    try_cast(split_part(code, '//', 2) as integer) as itemid,
    numeric_value as value,
    nullif(split_part(code, '//', 3), 'UNK') as valueuom
from meds_events
where regexp_matches(code, '^SUBJECT_FLUID_OUTPUT//[0-9]+//') and true /* items */
