-- Septic stays in shock: a vasopressor and a lactate above 2 mmol/L (Singer 2016), both within `shock_hours` of onset.
select distinct c.stay_id
from candidate_stays as c
inner join vasopressor_infusions as v
    on v.stay_id = c.stay_id and v.equivalent > 0
    and v.starttime <= c.onset_time + to_hours($shock_hours) and v.endtime >= c.onset_time - to_hours($shock_hours)
inner join labevents as l
    on l.subject_id = c.subject_id and l.itemid = 50813 and l.valuenum > 2
    and l.charttime between c.onset_time - to_hours($shock_hours) and c.onset_time + to_hours($shock_hours)
where c.is_septic
