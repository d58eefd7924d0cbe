-- Whole steps of the onset-anchored grid that the septic stay spends alive in the ICU; a step cut short by
-- admission, discharge or death is left out, because its dose would be that of a shorter time. Censored, no step begins
-- once comfort measures are the goal.
with grid as (
    select
        c.stay_id, c.onset_time, c.intime, coalesce(least(c.outtime, c.deathtime), c.outtime) as left_icu, f.comfort_time,
        c.onset_time + to_hours(cast(k.hour as integer)) as step_start
    from candidate_stays as c
    left join comfort as f on f.stay_id = c.stay_id
    cross join
        (select unnest(generate_series(-$hours_before, $hours_after - $step_hours, $step_hours)) as hour) as k
    where c.is_septic
)

select
    stay_id,
    cast(row_number() over (partition by stay_id order by step_start) - 1 as integer) as step_index,
    step_start,
    step_start + to_hours($step_hours) as step_end,
    epoch(step_start - onset_time) / 3600 as hours_since_onset
from grid
where
    step_start >= intime and step_start + to_hours($step_hours) <= left_icu
    and (not $censored or comfort_time is null or step_start < comfort_time)
