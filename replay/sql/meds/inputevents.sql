-- The start holds the rate and the end the amount; rows of one order and item are paired in the order of time.
with part as (
    select
        *,
        split_part(code, '//', 1) as side,
        try_cast(split_part(code, '//', 2) as integer) as itemid,
        row_number() over (partition by code, subject_id, icustay_id, order_id order by "time", numeric_value) as nth
    from meds_events
    where regexp_matches(code, '^INFUSION_(START|END)//[0-9]+$')
),

weight as (
    select subject_id, "time", max(numeric_value) as kg
    from meds_events
    where code = 'SUBJECT_WEIGHT_AT_INFUSION//KG'
    group by subject_id, "time"
)

select
    s.subject_id,
    s.hadm_id,
    s.icustay_id as stay_id,
    s."time" as starttime,
    e."time" as endtime,
    e."time" as storetime,
    s.itemid,
    e.numeric_value as amount,
    e.unit as amountuom,
    s.numeric_value as rate,
    s.unit as rateuom,
    s.link_order_id as linkorderid,
    s.ordercategorydescription,
    w.kg as patientweight,
    e.statusdescription
from part as s
inner join part as e
    on e.side = 'INFUSION_END' and e.itemid = s.itemid and e.nth = s.nth
    and e.subject_id = s.subject_id
    and e.icustay_id is not distinct from s.icustay_id and e.order_id is not distinct from s.order_id
left join weight as w on w.subject_id = s.subject_id and w."time" = s."time"
where s.side = 'INFUSION_START'
