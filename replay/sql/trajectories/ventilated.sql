-- Times of invasive ventilation: from charted modes and devices, or from the procedures (225792).
select stay_id, starttime, endtime
from ventilation
where $source = 'charted' and ventilation_status in ('InvasiveVent', 'Tracheostomy')
union all
select stay_id, starttime, endtime
from procedureevents
where $source = 'procedures' and itemid = 225792
