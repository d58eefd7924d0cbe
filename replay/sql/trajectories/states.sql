-- One row a step: its state as a list in the order of `state_columns`, NaN where nothing is known, 1 in a flag
-- where the window held no measurement; and the age of each measured value in hours, NaN where there is none, in the
-- order of `age_columns`.
with patient as (
    select s.stay_id, s.step_index, 'age_years' as feature, c.age as value
    from steps as s
    inner join cohort as c on c.stay_id = s.stay_id
    union all by name
    select stay_id, step_index, 'hours_since_onset' as feature, hours_since_onset as value
    from steps
),

known as (
    select stay_id, step_index, feature, value, is_measured, age from measured_values
    union all by name select stay_id, step_index, feature, value from cumulative_values
    union all by name select stay_id, step_index, feature, value from weight_values
    union all by name select stay_id, step_index, feature, value from patient
)

select
    s.stay_id, s.step_index,
    list(
        cast(
            case
                when c.is_flag then cast(not coalesce(k.is_measured, false) as integer)
                else coalesce(k.value, 'nan')
            end as float
        )
        order by c.position
    ) as state,
    list(cast(coalesce(k.age, 'nan') as float) order by c.position) filter (c.has_age) as value_age
from steps as s
cross join state_columns as c
left join known as k on k.stay_id = s.stay_id and k.step_index = s.step_index and k.feature = c.feature
group by s.stay_id, s.step_index
