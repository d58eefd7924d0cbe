-- Treatment during each step: norepinephrine equivalent, mcg/kg/min, of all vasopressors running together, and
-- tonicity-adjusted fluid, mL, infusions shared out by the time they overlap the step.
with vasopressor as (
    select
        s.stay_id, s.step_index,
        case $vasopressor_rule
            when 'maximum' then max(n.norepinephrine_equivalent_dose)
            else
                sum(
                    n.norepinephrine_equivalent_dose
                    * epoch(least(n.endtime, s.step_end) - greatest(n.starttime, s.step_start))
                    / epoch(s.step_end - s.step_start)
                    order by n.starttime
                )
        end as norepinephrine_equivalent
    from steps as s
    inner join norepinephrine_equivalent_dose as n
        on n.stay_id = s.stay_id and n.starttime < s.step_end and n.endtime > s.step_start
    group by s.stay_id, s.step_index
),

fluid as (
    select
        s.stay_id, s.step_index,
        sum(
            f.volume * case
                when f.is_bolus then 1
                else
                    epoch(least(f.endtime, s.step_end) - greatest(f.starttime, s.step_start))
                    / epoch(f.endtime - f.starttime)
            end
            order by f.starttime, f.endtime, f.volume
        ) as fluid_volume
    from steps as s
    inner join fluid_inputs as f
        on f.stay_id = s.stay_id and f.starttime < s.step_end
        and case when f.is_bolus then f.starttime >= s.step_start else f.endtime > s.step_start end
    where f.is_resuscitation
    group by s.stay_id, s.step_index
)

select
    s.stay_id, s.step_index,
    coalesce(v.norepinephrine_equivalent, 0) as norepinephrine_equivalent,
    coalesce(f.fluid_volume, 0) as fluid_volume
from steps as s
left join vasopressor as v on v.stay_id = s.stay_id and v.step_index = s.step_index
left join fluid as f on f.stay_id = s.stay_id and f.step_index = s.step_index
