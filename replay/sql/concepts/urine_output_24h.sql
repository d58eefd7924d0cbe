-- Urine of the 23 h up to each charting, mL, and the hours over which it collected: a charting stands for the
-- time since the one before it, the first for the time since the first heart rate.
WITH monitored AS (
  SELECT
    s.stay_id,
    MIN(c.charttime) AS intime_hr
  FROM icustays AS s
  JOIN chartevents AS c
    ON c.stay_id = s.stay_id
    AND c.itemid = 220045
    AND c.charttime > s.intime - INTERVAL '1' MONTH
    AND c.charttime < s.outtime + INTERVAL '1' MONTH
  GROUP BY s.stay_id
), collected AS (
  SELECT
    u.stay_id,
    u.charttime,
    u.urineoutput,
    COALESCE(LAG(u.charttime) OVER (PARTITION BY u.stay_id ORDER BY u.charttime), m.intime_hr) AS since
  FROM urine_output AS u
  JOIN monitored AS m ON m.stay_id = u.stay_id
), timed AS (
  SELECT
    stay_id,
    charttime,
    urineoutput,
    DATE_DIFF('day', CAST(since AS DATE), CAST(charttime AS DATE)) * 1440
    + (EXTRACT(HOUR FROM charttime) - EXTRACT(HOUR FROM since)) * 60
    + EXTRACT(MINUTE FROM charttime)
    - EXTRACT(MINUTE FROM since) AS minutes
  FROM collected
)
SELECT
  now.stay_id,
  now.charttime,
  SUM(earlier.urineoutput) AS urineoutput_24hr,
  ROUND(CAST(SUM(earlier.minutes) AS DECIMAL(38, 9)) / 60, 2) AS uo_tm_24hr
FROM timed AS now
JOIN timed AS earlier
  ON earlier.stay_id = now.stay_id
  AND earlier.charttime <= now.charttime
  AND earlier.charttime >= now.charttime - INTERVAL '23' HOUR
GROUP BY now.stay_id, now.charttime
