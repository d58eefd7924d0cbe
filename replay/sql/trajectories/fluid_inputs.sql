-- Intravenous intake of the cohort in mL of isotonic fluid. A row without a rate is a bolus given at its start;
-- intake before the ICU counts once, when it was charted, and never as a step's dose.
select
    e.stay_id, f.is_resuscitation, e.starttime, e.endtime,
    e.rate is null or not f.is_resuscitation or e.endtime <= e.starttime as is_bolus,
    cast(e.amount as double) * f.factor as volume
from inputevents as e
inner join fluid_items as f on f.itemid = e.itemid
inner join cohort as c on c.stay_id = e.stay_id
where e.amount > 0
