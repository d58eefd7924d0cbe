-- One row a step and measured feature: the window's own value, or the newest of an earlier window within the
-- lookback and within the hours for which the feature is carried forward; `is_measured` says which. `age` is the time
-- from the newest measurement a value rests on to the state, h. A ventilator's setting is not carried past its end.
-- A sum over a window that lies partly before the ICU is kept, scaled to the whole window, or missing.
with grid as (
    select s.stay_id, w.window_index, f.feature, f.reduce, f.carry, f.carry_hours, f.ends_with_ventilation
    from (select stay_id, max(step_index) as last_index from steps group by stay_id) as s
    cross join lateral (
        select unnest(generate_series(1 - $lookback_hours // $step_hours, s.last_index)) as window_index
    ) as w
    cross join (
        select feature, reduce, carry, carry_hours, ends_with_ventilation from feature_rules
        where reduce is not null or feature = 'shock_index'
    ) as f
),

last_known as (
    select
        g.*,
        v.value is not null as is_measured,
        last_value(v.value ignore nulls) over newest as value,
        last_value(v.charttime ignore nulls) over newest as charttime,
        last_value(case when v.value is not null then g.window_index end ignore nulls) over newest as known_index
    from grid as g
    left join window_values as v
        on v.stay_id = g.stay_id and v.window_index = g.window_index and v.feature = g.feature
    window newest as (
        partition by g.stay_id, g.feature order by g.window_index rows between unbounded preceding and current row
    )
),

carried as (
    select
        k.stay_id, k.window_index as step_index, k.feature, k.is_measured, k.value, s.state_time,
        case
            when k.reduce = 'sum' then greatest($step_hours * 3600 / epoch(s.state_time - c.intime), 1)
            else 1
        end as shortened,
        epoch(s.state_time - k.charttime) / 3600 as age,
        k.is_measured
        or (
            k.carry
            and (
                not $limited or k.carry_hours is null
                or (k.window_index - k.known_index) * $step_hours <= k.carry_hours
            )
            and not (
                $limited and k.ends_with_ventilation
                and exists (
                    select 1 from ventilator_ends as e
                    where e.stay_id = k.stay_id and e.ended > k.charttime and e.known_time < s.state_time
                )
            )
        ) as is_known
    from last_known as k
    inner join steps as s on s.stay_id = k.stay_id and s.step_index = k.window_index
    inner join cohort as c on c.stay_id = k.stay_id
)

select
    stay_id, step_index, feature,
    is_measured and (shortened = 1 or $partial <> 'missing') as is_measured,
    case
        when not is_known or shortened > 1 and $partial = 'missing' then null
        when $partial = 'scaled' then value * shortened
        else value
    end as value,
    case when is_known and (shortened = 1 or $partial <> 'missing') then age end as age
from carried
