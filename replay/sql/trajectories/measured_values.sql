-- One row a step and measured feature: the window's own value, or the newest of an earlier window within the
-- lookback; `is_measured` says which.
with grid as (
    select s.stay_id, w.window_index, f.feature, f.carry
    from (select stay_id, max(step_index) as last_index from steps group by stay_id) as s
    cross join lateral (
        select unnest(generate_series(1 - $lookback_hours // $step_hours, s.last_index)) as window_index
    ) as w
    cross join (
        select feature, carry from feature_rules where reduce is not null or feature = 'shock_index'
    ) as f
),

carried as (
    select
        g.stay_id, g.window_index as step_index, g.feature,
        v.value is not null as is_measured,
        case
            when g.carry then
                last_value(v.value ignore nulls) over (
                    partition by g.stay_id, g.feature order by g.window_index
                    rows between unbounded preceding and current row
                )
            else v.value
        end as value
    from grid as g
    left join window_values as v
        on v.stay_id = g.stay_id and v.window_index = g.window_index and v.feature = g.feature
)

select * from carried where step_index >= 0
