-- One row an episode: who, when septic, how it ended, how long it is observed.
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
    select stay_id, count(*) as n_steps from steps group by stay_id
)

select
    cast(c.subject_id as bigint) as subject_id, cast(c.hadm_id as bigint) as hadm_id,
    cast(c.stay_id as bigint) as stay_id, p.split, c.onset_time, c.died as died_90d,
    cast(c.age as integer) as age, c.gender, c.race, c.first_careunit,
    cast(coalesce(a.sofa, 0) as integer) as sofa_at_onset, cast(n.n_steps as integer) as n_steps
from cohort as c
inner join splits as p on p.subject_id = c.subject_id
inner join at_onset as a on a.stay_id = c.stay_id
inner join lengths as n on n.stay_id = c.stay_id
order by c.stay_id
