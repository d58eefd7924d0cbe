-- No time of filing: a value counts as known when it was charted.
select
    subject_id,
    hadm_id,
    icustay_id as stay_id,
    "time" as charttime,
    "time" as storetime,
    try_cast(split_part(code, '//', 2) as integer) as itemid,
    text_value as value,
    numeric_value as valuenum,
    nullif(split_part(code, '//', 3), 'UNK') as valueuom
from meds_events
where regexp_matches(code, '^LAB//2[0-9]{5}//') and icustay_id is not null and true /* items */
