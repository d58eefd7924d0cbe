-- PaO2/FiO2, mmHg, of arterial gases as it stood whenever a part of it became known: the oxygen fraction is that
-- of the gas itself (50816), else the last one charted (223835) in the 4 h before, as in `concepts/bg.sql`.
with gases as (
    select
        s.subject_id, s.stay_id, e.specimen_id, e.charttime, e.valuenum as pao2,
        greatest(known_at(e.charttime, e.storetime), a.known_time) as known_time
    from labevents as e
    inner join spans as s on s.subject_id = e.subject_id
    inner join arterial_specimens as a on a.specimen_id = e.specimen_id
    where e.itemid = 50821 and e.charttime < s.observed_until
),

oxygen as (
    select
        g.stay_id, g.specimen_id, g.charttime, g.pao2, g.known_time as gas_known, 0 as rank,
        e.charttime as charted, known_at(e.charttime, e.storetime) as oxygen_known, e.valuenum as raw
    from gases as g
    inner join labevents as e on e.specimen_id = g.specimen_id and e.itemid = 50816
    union all by name
    select
        g.stay_id, g.specimen_id, g.charttime, g.pao2, g.known_time as gas_known, 1 as rank,
        e.charttime as charted, known_at(e.charttime, e.storetime) as oxygen_known, e.valuenum as raw
    from gases as g
    inner join chartevents as e
        on e.subject_id = g.subject_id and e.itemid = 223835
        and e.charttime >= g.charttime - interval 4 hour and e.charttime <= g.charttime
),

plausible as (
    select *, greatest(gas_known, oxygen_known) as known_time, case when raw <= 1 then raw * 100 else raw end as fio2
    from oxygen
    where raw > 0.2 and raw <= 1 or raw >= 20 and raw <= 100
)

select
    stay_id, charttime, known_time, -epoch_us(known_time) as preference,
    100 * pao2 / arg_min(fio2, row(rank, -epoch_us(charted), -fio2)) over (
        partition by stay_id, specimen_id, pao2 order by known_time
    ) as raw
from plausible
