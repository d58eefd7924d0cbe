-- Glasgow Coma Scale as it stood whenever a part of a charting became known: the official rule of
-- `concepts/gcs.sql`, which looks at the whole record, applied to what was filed by then. A later revision of
-- the same charting replaces an earlier one (its preference is smaller).
with parts as (
    select
        e.stay_id, e.charttime, known_at(e.charttime, e.storetime) as known_time, e.itemid,
        case when e.itemid = 223900 and e.value = 'No Response-ETT' then 0 else e.valuenum end as score
    from chartevents as e
    inner join spans as s on s.stay_id = e.stay_id
    where
        e.itemid in (223901, 223900, 220739)
        and e.charttime >= s.observed_from - interval 6 hour and e.charttime < s.observed_until
),

revisions as (
    select distinct stay_id, charttime, known_time from parts
),

chartings as (  -- the charting itself and those of the 6 h before, as known at the revision
    select
        r.stay_id, r.charttime, r.known_time, p.charttime as charted,
        max(p.score) filter (where p.itemid = 223901) as motor,
        max(p.score) filter (where p.itemid = 223900) as verbal,
        max(p.score) filter (where p.itemid = 220739) as eyes
    from revisions as r
    inner join parts as p
        on p.stay_id = r.stay_id and p.known_time <= r.known_time
        and p.charttime <= r.charttime and p.charttime > r.charttime - interval 6 hour
    group by r.stay_id, r.charttime, r.known_time, p.charttime
),

paired as (
    select
        *,
        lag(motor) over charting as motor_before,
        lag(verbal) over charting as verbal_before,
        lag(eyes) over charting as eyes_before
    from chartings
    window charting as (partition by stay_id, charttime, known_time order by charted)
),

scored as (
    select
        stay_id, charttime, known_time,
        coalesce(verbal, verbal_before) = 0 as is_intubated,
        case
            when coalesce(verbal, verbal_before) = 0 then 15
            when verbal_before = 0 then coalesce(motor, 6) + verbal + coalesce(eyes, 4)
            else
                coalesce(motor, motor_before, 6) + coalesce(verbal, verbal_before, 5)
                + coalesce(eyes, eyes_before, 4)
        end as raw
    from paired
    where charted = charttime
),

judged as (  -- intubated, speech cannot be judged: full marks, the last score before it, or none
    select
        s.stay_id, s.charttime, s.known_time,
        case
            when $intubated_gcs = 'official' or not coalesce(s.is_intubated, false) then s.raw
            when $intubated_gcs = 'last_known' then (
                select arg_max(b.raw, row(b.charttime, b.known_time)) from scored as b
                where
                    b.stay_id = s.stay_id and not coalesce(b.is_intubated, false)
                    and b.charttime < s.charttime and b.known_time <= s.known_time
            )
        end as raw
    from scored as s
)

select stay_id, charttime, known_time, -epoch_us(known_time) as preference, raw
from judged
where raw is not null
