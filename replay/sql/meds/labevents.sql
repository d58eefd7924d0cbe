-- Extracts of either kind: LAB//item//unit at the time of the specimen, LAB//RESULT//item//unit at that of filing.
-- What a patient has at one time is one specimen.
select
    subject_id,
    hadm_id,
    dense_rank() over (order by subject_id, "time") as specimen_id,
    itemid,
    "time" as charttime,
    "time" as storetime,
    text_value as value,
    numeric_value as valuenum,
    nullif(unit, 'UNK') as valueuom
from (
    select
        *,
        try_cast(regexp_extract(code, '^LAB//(?:RESULT//)?(5[0-9]{4})//', 1) as integer) as itemid,
        regexp_extract(code, '//5[0-9]{4}//(.*)$', 1) as unit
    from (select subject_id, hadm_id, "time", code, text_value, numeric_value from meds_events)
    where regexp_matches(code, '^LAB//(RESULT//)?5[0-9]{4}//')
)
where true /* items */
