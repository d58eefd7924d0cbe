-- The time each stay is observed for: from `lookback_hours` before its first state to its last state.
select
    c.subject_id, s.stay_id,
    min(s.state_time) - to_hours($lookback_hours) as observed_from,
    max(s.state_time) as observed_until
from steps as s
inner join cohort as c on c.stay_id = s.stay_id
group by c.subject_id, s.stay_id
