-- Intravenous intake of the cohort in mL of isotonic fluid. A row without a rate is a bolus given at its start;
-- intake before the ICU counts once, when it was charted, and never as a step's dose. A carrier is the fluid that a drug
-- is mixed in; maintenance is what runs continuously by itself; the rest is given as a bolus or as blood.
select
    e.stay_id, f.is_resuscitation, e.starttime, e.endtime,
    e.rate is null or not f.is_resuscitation or e.endtime <= e.starttime as is_bolus,
    cast(e.amount as double) * f.factor as volume,
    case
        when not f.is_resuscitation then 'elsewhere'
        when f.may_carry and e.ordercategorydescription in ('Continuous Med', 'Drug Push') then 'carrier'
        when e.ordercategorydescription = 'Continuous IV' then 'maintenance'
        else 'bolus'
    end as kind
from inputevents as e
inner join fluid_items as f on f.itemid = e.itemid
inner join cohort as c on c.stay_id = e.stay_id
where e.amount > 0
