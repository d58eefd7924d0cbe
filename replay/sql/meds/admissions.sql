-- Whoever was discharged as DIED died at the time of death.
with death as (
    select subject_id, max("time") as deathtime from meds_events where code = 'MEDS_DEATH' group by subject_id
),

discharge as (
    select hadm_id, max("time") as dischtime, max(code) as code
    from meds_events
    where code like 'HOSPITAL_DISCHARGE//%'
    group by hadm_id
)

select
    a.subject_id,
    a.hadm_id,
    a."time" as admittime,
    d.dischtime,
    case when d.code = 'HOSPITAL_DISCHARGE//DIED' then death.deathtime end as deathtime,
    split_part(a.code, '//', 2) as admission_type,
    a.race,
    case when d.code = 'HOSPITAL_DISCHARGE//DIED' then 1 else 0 end as hospital_expire_flag
from meds_events as a
left join discharge as d on d.hadm_id = a.hadm_id
left join death on death.subject_id = a.subject_id
where a.code like 'HOSPITAL_ADMISSION//%'
