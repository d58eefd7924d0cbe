-- Norepinephrine equivalent, mcg/kg/min, of all vasopressors running together: a stay is cut at every start and end.
-- Of two rows of one drug at once, as at the change of a bag, the larger rate counts, not their sum.
with moments as (
    select stay_id, starttime as moment from vasopressor_infusions
    union
    select stay_id, endtime as moment from vasopressor_infusions
),

segments as (
    select stay_id, moment as starttime, lead(moment) over (partition by stay_id order by moment) as endtime
    from moments
),

running as (
    select s.stay_id, s.starttime, s.endtime, i.agent, max(i.equivalent) as equivalent
    from segments as s
    inner join vasopressor_infusions as i
        on i.stay_id = s.stay_id and i.starttime <= s.starttime and i.endtime >= s.endtime
    group by s.stay_id, s.starttime, s.endtime, i.agent
)

select
    stay_id, starttime, endtime,
    cast(round(cast(sum(equivalent order by agent) as decimal(38, 9)), 4) as double) as dose
from running
group by stay_id, starttime, endtime
