-- Goals of care as charted (223758, in progress notes 228687), by the time they were known: full code, limited (no
-- resuscitation or no intubation) or comfort measures only.
select
    e.stay_id, known_at(e.charttime, e.storetime) as known_time,
    case
        when e.value = 'Full code' then 'full'
        when e.value = 'Comfort measures only' then 'comfort'
        else 'limited'
    end as status
from chartevents as e
inner join candidate_stays as c on c.stay_id = e.stay_id and c.is_septic
where
    e.itemid in (223758, 228687)
    and e.value in (
        'Full code', 'Comfort measures only', 'DNR (do not resuscitate)', 'DNI (do not intubate)', 'DNR / DNI'
    )
