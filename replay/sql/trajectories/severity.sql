-- SOFA of the last 24 hours at both ends of each step (last hourly row up to then; before the first, the
-- assumed baseline of 0); invasive ventilation and the goals of care at its start.
with scores as (
    select f.stay_id, f.endtime, f.sofa_24hours as sofa
    from sofa as f
    inner join cohort as c on c.stay_id = f.stay_id
),

at_start as (
    select s.stay_id, s.step_index, f.sofa
    from steps as s
    asof left join scores as f on f.stay_id = s.stay_id and f.endtime <= s.step_start
),

at_end as (
    select s.stay_id, s.step_index, f.sofa
    from steps as s
    asof left join scores as f on f.stay_id = s.stay_id and f.endtime <= s.step_end
),

-- of several known at one time the most restrictive
goals as (
    select s.stay_id, s.step_index, g.status
    from steps as s
    asof left join (
        select stay_id, known_time, arg_max(status, case status when 'comfort' then 2 when 'limited' then 1 else 0 end) as status
        from goals_of_care
        group by stay_id, known_time
    ) as g on g.stay_id = s.stay_id and g.known_time <= s.step_start
)

select
    s.stay_id, s.step_index,
    cast(coalesce(a.sofa, 0) as integer) as sofa,
    cast(coalesce(b.sofa, 0) as integer) as sofa_at_end,
    exists (
        select 1 from ventilated as v
        where
            v.stay_id = s.stay_id
            and v.starttime <= s.step_start and v.endtime > s.step_start
    ) as is_ventilated,
    coalesce(g.status, 'unknown') as code_status
from steps as s
inner join at_start as a on a.stay_id = s.stay_id and a.step_index = s.step_index
inner join at_end as b on b.stay_id = s.stay_id and b.step_index = s.step_index
inner join goals as g on g.stay_id = s.stay_id and g.step_index = s.step_index
