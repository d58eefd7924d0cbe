-- One row a step: state, doses given, both rewards and the next state, which repeats the state on the last step.
with ended as (
    select *, step_index = max(step_index) over (partition by stay_id) as terminal
    from steps
)

select
    c.subject_id, c.hadm_id, s.stay_id, s.step_index, s.step_start, x.state,
    cast(
        case when s.terminal then $terminal_reward * (case when c.died then -1 else 1 end) else 0 end as float
    ) as reward_sparse,
    cast(
        case
            when s.terminal then $terminal_reward * (case when c.died then -1 else 1 end)
            else -$sofa_weight * (v.sofa_at_end - v.sofa)
        end as float
    ) as reward_sofa_shaped,
    s.terminal,
    coalesce(lead(x.state) over (partition by s.stay_id order by s.step_index), x.state) as next_state,
    cast(d.norepinephrine_equivalent as float) as norepinephrine_equivalent,
    cast(d.fluid_volume as float) as fluid_volume,
    v.sofa, v.is_ventilated,
    cast(d.vasopressor_maximum as float) as vasopressor_maximum,
    cast(d.vasopressor_mean as float) as vasopressor_mean,
    cast(d.carrier_volume as float) as carrier_volume,
    cast(d.maintenance_volume as float) as maintenance_volume,
    cast(d.elsewhere_volume as float) as elsewhere_volume,
    cast(least(epoch(s.state_time - c.intime) / 3600, $step_hours) as float) as window_hours,
    v.code_status, x.value_age
from ended as s
inner join cohort as c on c.stay_id = s.stay_id
inner join states as x on x.stay_id = s.stay_id and x.step_index = s.step_index
inner join doses as d on d.stay_id = s.stay_id and d.step_index = s.step_index
inner join severity as v on v.stay_id = s.stay_id and v.step_index = s.step_index
order by s.stay_id, s.step_index
