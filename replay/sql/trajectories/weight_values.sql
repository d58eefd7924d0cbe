-- Weight in force when each state is taken, kg, from what was known by then: the newest daily weight, else the
-- admission weight, else the admission weight in pounds (226531), else the weight a running dose was set by.
-- Unlike weight_durations, no weight reaches back to a time before it was charted.
with weights as (
    select
        e.stay_id, f.preference, e.charttime,
        known_at(e.charttime, e.storetime) as known_time,
        case e.itemid when 226531 then e.valuenum * 0.45359237 else e.valuenum end as weight
    from chartevents as e
    inner join feature_items as f
        on f.feature = 'weight_kg' and f.source = 'chartevents' and f.itemid = e.itemid
    inner join cohort as c on c.stay_id = e.stay_id
    union all by name
    select
        e.stay_id, 99 as preference, e.starttime as charttime, e.starttime as known_time,
        e.patientweight as weight
    from inputevents as e
    inner join cohort as c on c.stay_id = e.stay_id
)

select
    s.stay_id, s.step_index, 'weight_kg' as feature,
    first(w.weight order by w.preference, w.charttime desc, w.known_time desc, w.weight) as value
from steps as s
inner join weights as w on w.stay_id = s.stay_id and w.known_time < s.state_time
inner join feature_rules as r on r.feature = 'weight_kg'
where w.weight between r.low and r.high
group by s.stay_id, s.step_index
