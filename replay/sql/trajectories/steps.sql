-- The steps of the cohort, each with the time up to which its state may know anything: the start of the step,
-- or, in the published same-window alignment, its end.
select
    s.*,
    case $alignment when 'causal' then s.step_start else s.step_end end as state_time
from candidate_steps as s
inner join cohort as c on c.stay_id = s.stay_id
