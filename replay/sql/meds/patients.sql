-- Ages count from the year of birth: anchor_age 0 in that year. Death is known by its date.
select
    subject_id,
    max(case when code like 'GENDER//%' then split_part(code, '//', 2) end) as gender,
    0 as anchor_age,
    max(case when code = 'MEDS_BIRTH' then year("time") end) as anchor_year,
    null as anchor_year_group,
    cast(max(case when code = 'MEDS_DEATH' then "time" end) as date) as dod
from meds_events
where subject_id is not null
group by subject_id
