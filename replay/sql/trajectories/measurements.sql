-- Plausible measurements of the observed spans in output units: one row a value, in the window in which it
-- became known. Windows are numbered like the step whose state they end at: window i ends when state i is taken.
with charted as (
    select
        e.stay_id, f.feature, f.preference, e.itemid, e.charttime,
        known_at(e.charttime, e.storetime) as known_time, e.valuenum as raw
    from chartevents as e
    inner join spans as s on s.stay_id = e.stay_id
    inner join feature_items as f on f.source = 'chartevents' and f.itemid = e.itemid
),

-- by patient and time: a quarter of the rows, all those of the emergency department, carry no hadm_id
laboratory as (
    select
        s.stay_id, f.feature, f.preference, f.specimen, e.itemid, e.charttime,
        known_at(e.charttime, e.storetime) as known_time, a.known_time as arterial_known, e.valuenum as raw
    from labevents as e
    inner join spans as s on s.subject_id = e.subject_id
    inner join feature_items as f on f.source = 'labevents' and f.itemid = e.itemid
    left join arterial_specimens as a on a.specimen_id = e.specimen_id
),

output as (
    select
        e.stay_id, f.feature, f.preference, e.itemid, e.charttime,
        known_at(e.charttime, e.storetime) as known_time, e.value as raw
    from outputevents as e
    inner join spans as s on s.stay_id = e.stay_id
    inner join feature_items as f on f.source = 'outputevents' and f.itemid = e.itemid
),

collected as (
    select * from charted
    union all by name
    select * exclude (specimen, arterial_known) from laboratory where specimen is null
    union all by name
    select
        * exclude (specimen, arterial_known)
        replace (greatest(known_time, arterial_known) as known_time)
    from laboratory
    where specimen = 'arterial_only' and arterial_known is not null
    union all by name
    select
        * exclude (specimen, arterial_known)
        replace (preference + cast(not coalesce(arterial_known <= known_time, false) as bigint) as preference)
    from laboratory
    where specimen = 'arterial_first'
    union all by name select * from output
    union all by name select 'gcs_total' as feature, * from glasgow
    union all by name select 'pf_ratio' as feature, * from oxygenation
),

converted as (
    select
        c.* exclude (raw, itemid), r.reduce, r.prefer, r.low, r.high,
        case
            when r.conversion = 'temperature' and c.raw > 70 then (c.raw - 32) / 1.8
            when r.conversion = 'oxygen_fraction' and c.raw >= 20 then c.raw / 100
            when r.conversion = 'irrigant' and c.itemid = 227488 then -abs(c.raw)
            else c.raw
        end as value
    from collected as c
    inner join feature_rules as r on r.feature = c.feature
    where r.reduce is not null
)

select
    c.* exclude (low, high),
    cast((epoch_us(c.known_time) - epoch_us(s.observed_from)) // ($step_hours * 3600000000) as integer)
    - $lookback_hours // $step_hours + 1 as window_index
from converted as c
inner join spans as s
    on s.stay_id = c.stay_id and c.known_time >= s.observed_from and c.known_time < s.observed_until
where c.value between c.low and c.high
