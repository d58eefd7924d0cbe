-- Coded at discharge.
select
    subject_id,
    hadm_id,
    split_part(code, '//', 4) as icd_code,
    try_cast(split_part(code, '//', 3) as smallint) as icd_version
from meds_events
where code like 'DIAGNOSIS//ICD//%'
