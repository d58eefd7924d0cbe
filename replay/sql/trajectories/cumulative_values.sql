-- Treatment since ICU admission, strictly before each state is taken: nothing of the step's own dose.
with fluid as (
    select
        s.stay_id, s.step_index,
        sum(
            f.volume * case
                when f.is_bolus then 1
                else epoch(least(f.endtime, s.state_time) - f.starttime) / epoch(f.endtime - f.starttime)
            end
            order by f.starttime, f.endtime, f.volume
        ) as value
    from steps as s
    inner join fluid_inputs as f on f.stay_id = s.stay_id and f.starttime < s.state_time
    group by s.stay_id, s.step_index
),

vasopressor as (
    select
        s.stay_id, s.step_index,
        sum(
            n.dose * epoch(least(n.endtime, s.state_time) - n.starttime) / 3600
            order by n.starttime
        ) as value
    from steps as s
    inner join vasopressor_segments as n
        on n.stay_id = s.stay_id and n.starttime < s.state_time
    group by s.stay_id, s.step_index
)

select s.stay_id, s.step_index, 'cum_iv_fluid_ml' as feature, coalesce(f.value, 0) as value
from steps as s
left join fluid as f on f.stay_id = s.stay_id and f.step_index = s.step_index
union all by name
select s.stay_id, s.step_index, 'cum_vasopressor_dose_nor_equiv' as feature, coalesce(v.value, 0) as value
from steps as s
left join vasopressor as v on v.stay_id = s.stay_id and v.step_index = s.step_index
