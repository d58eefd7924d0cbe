-- Treatment during each step: norepinephrine equivalent, mcg/kg/min, of all vasopressors running together, its maximum
-- and its mean over the step; and tonicity-adjusted fluid, mL, infusions shared out by the time they overlap the step,
-- with the parts of it that carried drugs or ran continuously, and beside it what was charted as taken in elsewhere.
with vasopressor as (
    select
        s.stay_id, s.step_index,
        max(n.dose) as maximum,
        sum(
            n.dose * epoch(least(n.endtime, s.step_end) - greatest(n.starttime, s.step_start))
            / epoch(s.step_end - s.step_start)
            order by n.starttime
        ) as mean
    from steps as s
    inner join vasopressor_segments as n
        on n.stay_id = s.stay_id and n.starttime < s.step_end and n.endtime > s.step_start
    group by s.stay_id, s.step_index
),

shared as (
    select
        s.stay_id, s.step_index, f.kind, f.is_resuscitation, f.starttime, f.endtime,
        f.volume
            * case
                when f.is_bolus then 1
                else
                    epoch(least(f.endtime, s.step_end) - greatest(f.starttime, s.step_start))
                    / epoch(f.endtime - f.starttime)
            end as volume
    from steps as s
    inner join fluid_inputs as f
        on f.stay_id = s.stay_id and f.starttime < s.step_end
        and case when f.is_bolus then f.starttime >= s.step_start else f.endtime > s.step_start end
),

fluid as (
    select
        stay_id, step_index,
        sum(volume order by starttime, endtime, volume) filter (
            is_resuscitation and (kind <> 'carrier' or $carriers_count)
        ) as fluid_volume,
        sum(volume order by starttime, endtime, volume) filter (kind = 'carrier') as carrier_volume,
        sum(volume order by starttime, endtime, volume) filter (kind = 'maintenance') as maintenance_volume,
        sum(volume order by starttime, endtime, volume) filter (kind = 'elsewhere') as elsewhere_volume
    from shared
    group by stay_id, step_index
)

select
    s.stay_id, s.step_index,
    coalesce(case $vasopressor_rule when 'maximum' then v.maximum else v.mean end, 0) as norepinephrine_equivalent,
    coalesce(f.fluid_volume, 0) as fluid_volume,
    coalesce(v.maximum, 0) as vasopressor_maximum,
    coalesce(v.mean, 0) as vasopressor_mean,
    coalesce(f.carrier_volume, 0) as carrier_volume,
    coalesce(f.maintenance_volume, 0) as maintenance_volume,
    coalesce(f.elsewhere_volume, 0) as elsewhere_volume
from steps as s
left join vasopressor as v on v.stay_id = s.stay_id and v.step_index = s.step_index
left join fluid as f on f.stay_id = s.stay_id and f.step_index = s.step_index
