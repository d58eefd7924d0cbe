-- The hours of a stay, from 24 before the first heart rate to the hour of the last one. Hour 0 ends at the
-- first heart rate, rounded up to the full hour; hour `hr` is the time after `endtime` - 1 h up to `endtime`.
WITH monitored AS (
  SELECT
    stay_id,
    CASE
      WHEN intime_hr = DATE_TRUNC('hour', intime_hr) THEN intime_hr
      ELSE DATE_TRUNC('hour', intime_hr) + INTERVAL '1' HOUR
    END AS first_end,
    DATE_DIFF('hour', DATE_TRUNC('hour', intime_hr), DATE_TRUNC('hour', outtime_hr)) AS last_hr
  FROM icustay_times
  WHERE intime_hr IS NOT NULL
)
SELECT
  m.stay_id,
  h.hr,
  m.first_end + INTERVAL '1' HOUR * h.hr AS endtime
FROM monitored AS m
CROSS JOIN UNNEST(GENERATE_SERIES(-24, m.last_hr)) AS h(hr)
