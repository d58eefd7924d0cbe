-- One row an episode: who, when septic, how long it is observed and how that ended: `horizon` at the end of the grid,
-- `comfort` where comfort measures censor it, `died` or `discharged` in between. `death_time` is a day's first moment
-- where only the date is known.
with scores as (
    select f.stay_id, f.endtime, f.sofa_24hours as sofa
    from sofa as f
    inner join cohort as c on c.stay_id = f.stay_id
),

at_onset as (
    select c.stay_id, f.sofa
    from cohort as c
    asof left join scores as f on f.stay_id = c.stay_id and f.endtime <= c.onset_time
),

lengths as (
    select stay_id, count(*) as n_steps, max(step_end) as last_end from steps group by stay_id
),

goals as (
    select
        stay_id, min(known_time) filter (status <> 'full') as limited_time,
        min(known_time) filter (status = 'comfort') as comfort_time
    from goals_of_care
    group by stay_id
),

ended as (
    select
        c.stay_id, coalesce(c.deathtime, cast(c.dod as timestamp)) as death_time,
        case
            when n.last_end >= c.onset_time + to_hours($hours_after) then 'horizon'
            when $censored and g.comfort_time < coalesce(least(c.outtime, c.deathtime), c.outtime) then 'comfort'
            when c.deathtime <= c.outtime then 'died'
            else 'discharged'
        end as ending
    from cohort as c
    inner join lengths as n on n.stay_id = c.stay_id
    left join goals as g on g.stay_id = c.stay_id
)

select
    cast(c.subject_id as bigint) as subject_id, cast(c.hadm_id as bigint) as hadm_id,
    cast(c.stay_id as bigint) as stay_id, p.split, c.onset_time, c.died as died_90d,
    cast(c.age as integer) as age, c.gender, c.race, c.first_careunit,
    cast(coalesce(a.sofa, 0) as integer) as sofa_at_onset, cast(n.n_steps as integer) as n_steps,
    e.ending,
    case e.ending
        when 'horizon' then n.last_end
        when 'comfort' then g.comfort_time
        when 'died' then c.deathtime
        else c.outtime
    end as end_time,
    b.anchor_year_group as era, e.death_time, g.limited_time, g.comfort_time,
    exists (select 1 from septic_shock as k where k.stay_id = c.stay_id) as in_septic_shock
from cohort as c
inner join patients as b on b.subject_id = c.subject_id
inner join splits as p on p.subject_id = c.subject_id
inner join at_onset as a on a.stay_id = c.stay_id
inner join lengths as n on n.stay_id = c.stay_id
inner join ended as e on e.stay_id = c.stay_id
left join goals as g on g.stay_id = c.stay_id
order by c.stay_id
