select
    a.subject_id,
    a.hadm_id,
    a.icustay_id as stay_id,
    split_part(a.code, '//', 2) as first_careunit,
    split_part(d.code, '//', 2) as last_careunit,
    a."time" as intime,
    d."time" as outtime,
    epoch(d."time" - a."time") / 86400 as los
from meds_events as a
left join meds_events as d on d.icustay_id = a.icustay_id and d.code like 'ICU_DISCHARGE//%'
where a.code like 'ICU_ADMISSION//%'
