-- The hours of a stay, from 24 before the first heart rate to the hour of the last one. Hour 0 ends at the
-- first heart rate, rounded up to the full hour; hour `hr` is the time after `endtime` - 1 h up to `endtime`.
WITH monitored AS (
  SELECT
    stay_id,
    DATE_TRUNC('hour', intime_hr - INTERVAL '1' MICROSECOND) + INTERVAL '1' HOUR AS first_end,
    CAST(
      DATE_DIFF('day', CAST(intime_hr AS DATE), CAST(outtime_hr AS DATE)) * 24
      + EXTRACT(HOUR FROM outtime_hr)
      - EXTRACT(HOUR FROM intime_hr) AS BIGINT
    ) AS last_hr
  FROM icustay_times
  WHERE intime_hr IS NOT NULL
)
SELECT
  m.stay_id,
  hr,
  m.first_end + INTERVAL '1' HOUR * hr AS endtime
FROM monitored AS m
CROSS JOIN GENERATE_SERIES(-24, m.last_hr) AS hr(hr)
