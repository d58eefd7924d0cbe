-- Plausible measurements of the observed spans in output units: one row a value, in the window in which it
-- became known. A value is known once filed (storetime); a missing or earlier storetime means charttime.
-- Windows are numbered like the step whose state they end at: window i ends when state i is taken.
with specimens as (  -- laboratory blood gases name their specimen in a row of their own
    select specimen_id, max(value) as specimen
    from labevents
    where itemid = 52033
    group by specimen_id
),

charted as (
    select s.*, f.*, e.charttime, e.storetime, e.valuenum as raw
    from chartevents as e
    inner join spans as s on s.stay_id = e.stay_id
    inner join feature_items as f on f.source = 'chartevents' and f.itemid = e.itemid
    where f.reduce is not null
),

-- by patient and time: a quarter of the rows, all those of the emergency department, carry no hadm_id
laboratory as (
    select s.*, f.*, e.charttime, e.storetime, e.valuenum as raw
    from labevents as e
    inner join spans as s on s.subject_id = e.subject_id
    inner join feature_items as f on f.source = 'labevents' and f.itemid = e.itemid
    left join specimens as p on p.specimen_id = e.specimen_id
    where f.specimen is null or f.specimen = 'arterial_first' or p.specimen = 'ART.'
),

output as (
    select s.*, f.*, e.charttime, e.storetime, e.value as raw
    from outputevents as e
    inner join spans as s on s.stay_id = e.stay_id
    inner join feature_items as f on f.source = 'outputevents' and f.itemid = e.itemid
),

coma as (
    select s.*, f.*, e.charttime, e.known_time as storetime, e.gcs as raw
    from gcs as e
    inner join spans as s on s.stay_id = e.stay_id
    inner join feature_items as f on f.source = 'gcs'
),

oxygenation as (
    select s.*, f.*, e.charttime, e.known_time as storetime, e.pao2fio2ratio as raw
    from bg as e
    inner join spans as s on s.subject_id = e.subject_id
    inner join feature_items as f on f.source = 'bg'
    where e.specimen = 'ART.'
),

converted as (
    select
        subject_id, stay_id, feature, preference, prefer, reduce, low, high, observed_from, observed_until,
        charttime,
        case
            when $availability = 'charttime' or storetime is null or storetime < charttime then charttime
            else storetime
        end as known_time,
        case
            when conversion = 'temperature' and raw > 70 and raw < 120 then (raw - 32) / 1.8
            when conversion = 'oxygen_fraction' and raw >= 20 then raw / 100
            when conversion = 'irrigant' and itemid = 227488 then -abs(raw)
            else raw
        end as value
    from (
        select * from charted
        union all by name select * from laboratory
        union all by name select * from output
        union all by name select * from coma
        union all by name select * from oxygenation
    )
)

select
    stay_id,
    cast((epoch_us(known_time) - epoch_us(observed_from)) // ($step_hours * 3600000000) as integer)
    - $lookback_hours // $step_hours + 1 as window_index,
    feature, reduce, preference, prefer, charttime, known_time, value
from converted
where
    known_time >= observed_from and known_time < observed_until
    and value between low and high
