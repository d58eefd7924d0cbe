-- One value a stay, window and feature. Where two values of one time (or, with prefer = window, of one window)
-- come from different items, the preferred item's stands. `last` is the newest by charttime, then by the time it
-- became known, then the larger; the other orders make sums of floats the same on every run.
with preferred as (
    select *
    from measurements
    qualify
        preference = min(preference) over (
            partition by stay_id, window_index, feature, case when prefer = 'charttime' then charttime end
        )
),

reduced as (
    select
        stay_id, window_index, feature, max(charttime) as charttime,
        case any_value(reduce)
            when 'mean' then avg(value order by charttime, value) filter (reduce = 'mean')
            when 'min' then min(value)
            when 'max' then max(value)
            when 'sum' then greatest(sum(value order by charttime, value) filter (reduce = 'sum'), 0)
            when 'last' then last(value order by charttime, known_time, value) filter (reduce = 'last')
        end as value
    from preferred
    group by stay_id, window_index, feature
),

shock as (
    select
        h.stay_id, h.window_index, 'shock_index' as feature, least(h.charttime, p.charttime) as charttime,
        h.value / p.value as value
    from reduced as h
    inner join reduced as p on p.stay_id = h.stay_id and p.window_index = h.window_index and p.feature = 'sbp'
    inner join feature_rules as r on r.feature = 'shock_index'
    where h.feature = 'heart_rate' and h.value / p.value between r.low and r.high
)

select * from reduced
union all by name
select * from shock
