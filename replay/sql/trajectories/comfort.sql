-- When comfort measures only were first known to be the goal of a stay.
select stay_id, min(known_time) as comfort_time
from goals_of_care
where status = 'comfort'
group by stay_id
