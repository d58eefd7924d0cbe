-- When a stay was known to be off the ventilator: a procedure (225792) ended and none went on, or an oxygen device
-- was charted that no ventilator has. `ended` is when it was, `known_time` when that was filed.
select p.stay_id, p.endtime as ended, known_at(p.endtime, p.storetime) as known_time
from procedureevents as p
inner join spans as s on s.stay_id = p.stay_id
where
    p.itemid = 225792
    and not exists (
        select 1 from procedureevents as n
        where n.stay_id = p.stay_id and n.itemid = 225792 and n.starttime <= p.endtime and n.endtime > p.endtime
    )
union all by name
select e.stay_id, e.charttime as ended, known_at(e.charttime, e.storetime) as known_time
from chartevents as e
inner join spans as s on s.stay_id = e.stay_id
where
    e.itemid = 226732
    and trim(e.value) in (
        'None', 'Nasal cannula', 'High flow nasal cannula', 'Face tent', 'Aerosol-cool', 'Venti mask',
        'Medium conc mask', 'Non-rebreather', 'High flow neb', 'Ultrasonic neb', 'Vapomist', 'Oxymizer'
    )
