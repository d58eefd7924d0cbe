-- One row an ICU stay, with its Sepsis-3 onset where it has one and whether death followed it.
-- Death: patients.dod is a date, so it is compared with dates; timestamps would give negative survival.
with timed as (
    select
        d.subject_id, d.hadm_id, d.stay_id, i.first_careunit, d.gender, d.race,
        least(d.admission_age, 91) as age,  -- 91 stands for "over 89" at the anchor year
        d.icu_intime as intime, d.icu_outtime as outtime, a.deathtime, d.dod,
        s.stay_id is not null as is_septic,
        case $onset_rule
            when 'sofa_time' then s.sofa_time
            when 'suspected_infection_time' then s.suspected_infection_time
            when 'min' then least(s.sofa_time, s.suspected_infection_time)
            when 'max' then greatest(s.sofa_time, s.suspected_infection_time)
        end as onset_time
    from icustay_detail as d
    inner join icustays as i on i.stay_id = d.stay_id
    inner join admissions as a on a.hadm_id = d.hadm_id
    left join sepsis3 as s on s.stay_id = d.stay_id and s.sepsis3
)

select
    *,
    coalesce(cast(dod as date) <= cast(onset_time as date) + cast($mortality_days as integer), false)
    or coalesce(deathtime <= onset_time + to_days(cast($mortality_days as integer)), false) as died
from timed
