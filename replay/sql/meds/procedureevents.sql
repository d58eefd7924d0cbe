-- Starts and ends of one item in a stay are paired in the order of time.
with part as (
    select
        *,
        try_cast(split_part(code, '//', 3) as integer) as itemid,
        split_part(code, '//', 2) as side,
        row_number() over (partition by code, subject_id, icustay_id order by "time") as nth
    from meds_events
    where regexp_matches(code, '^PROCEDURE//(START|END)//[0-9]+$')
)

select
    s.subject_id,
    s.hadm_id,
    s.icustay_id as stay_id,
    s."time" as starttime,
    e."time" as endtime,
    s."time" as storetime,
    s.itemid,
    null as value,
    null as valueuom,
    null as statusdescription
from part as s
left join part as e
    on e.side = 'END' and e.itemid = s.itemid and e.nth = s.nth
    and e.subject_id = s.subject_id and e.icustay_id is not distinct from s.icustay_id
where s.side = 'START'
