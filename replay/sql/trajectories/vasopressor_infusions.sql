-- Infusions of vasopressors of the septic stays, each as norepinephrine equivalent, mcg/kg/min: those of the official
-- concept in its units and, in the complete list, those that it leaves out. A rate in another unit is unknown.
with beyond as (
    select
        e.stay_id, v.agent, e.starttime, e.endtime,
        case e.rateuom
            when 'mcg/kg/min' then e.rate
            when 'mg/kg/min' then e.rate * 1000
            when 'ng/kg/min' then e.rate / 1000
            when 'mcg/min' then e.rate / nullif(e.patientweight, 0)
        end as rate
    from inputevents as e
    inner join vasopressor_items as v on v.itemid = e.itemid
    where $vasopressor_items = 'complete'
),

every as (
    select stay_id, agent, starttime, endtime, vaso_rate as rate from vasoactive_infusion
    union all by name select * from beyond
)

select e.stay_id, e.agent, e.starttime, e.endtime, e.rate * a.equivalent as equivalent
from every as e
inner join vasopressor_agents as a on a.agent = e.agent
inner join candidate_stays as c on c.stay_id = e.stay_id and c.is_septic
where e.rate is not null and e.endtime > e.starttime
