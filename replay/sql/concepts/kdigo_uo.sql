-- Urine of the 6, 12 and 24 h up to each charting, mL and mL/kg/h. A charting stands for the hours since the one before
-- it, the first for one hour; a rate needs chartings that stand for the whole period, and at 6 h for less than 12.
WITH timed AS (
  SELECT
    u.stay_id,
    u.charttime,
    u.urineoutput,
    CAST(
      DATE_DIFF('day', CAST(s.intime AS DATE), CAST(u.charttime AS DATE)) * 86400
      + (EXTRACT(HOUR FROM u.charttime) - EXTRACT(HOUR FROM s.intime)) * 3600
      + (EXTRACT(MINUTE FROM u.charttime) - EXTRACT(MINUTE FROM s.intime)) * 60
      + EXTRACT(SECOND FROM u.charttime)
      - EXTRACT(SECOND FROM s.intime) AS BIGINT
    ) AS seconds
  FROM urine_output AS u
  JOIN icustays AS s ON s.stay_id = u.stay_id
), spaced AS (
  SELECT
    *,
    COALESCE(seconds - LAG(seconds) OVER (PARTITION BY stay_id ORDER BY seconds), 3600) AS since_last
  FROM timed
), summed AS (
  SELECT
    stay_id,
    charttime,
    SUM(urineoutput) OVER (
      PARTITION BY stay_id ORDER BY seconds NULLS FIRST RANGE BETWEEN 21600 PRECEDING AND CURRENT ROW
    ) AS urineoutput_6hr,
    SUM(urineoutput) OVER (
      PARTITION BY stay_id ORDER BY seconds NULLS FIRST RANGE BETWEEN 43200 PRECEDING AND CURRENT ROW
    ) AS urineoutput_12hr,
    SUM(urineoutput) OVER (
      PARTITION BY stay_id ORDER BY seconds NULLS FIRST RANGE BETWEEN 86400 PRECEDING AND CURRENT ROW
    ) AS urineoutput_24hr,
    SUM(since_last) OVER (
      PARTITION BY stay_id ORDER BY seconds NULLS FIRST RANGE BETWEEN 21600 PRECEDING AND CURRENT ROW
    ) AS seconds_6hr,
    SUM(since_last) OVER (
      PARTITION BY stay_id ORDER BY seconds NULLS FIRST RANGE BETWEEN 43200 PRECEDING AND CURRENT ROW
    ) AS seconds_12hr,
    SUM(since_last) OVER (
      PARTITION BY stay_id ORDER BY seconds NULLS FIRST RANGE BETWEEN 86400 PRECEDING AND CURRENT ROW
    ) AS seconds_24hr
  FROM spaced
), hourly AS (
  SELECT
    *,
    ROUND(CAST(CAST(seconds_6hr AS DOUBLE) / 3600 AS DECIMAL(38, 9)), 6) AS uo_tm_6hr,
    ROUND(CAST(CAST(seconds_12hr AS DOUBLE) / 3600 AS DECIMAL(38, 9)), 6) AS uo_tm_12hr,
    ROUND(CAST(CAST(seconds_24hr AS DOUBLE) / 3600 AS DECIMAL(38, 9)), 6) AS uo_tm_24hr
  FROM summed
)
SELECT
  h.stay_id,
  h.charttime,
  w.weight,
  h.urineoutput_6hr,
  h.urineoutput_12hr,
  h.urineoutput_24hr,
  CASE
    WHEN h.uo_tm_6hr >= 6 AND h.uo_tm_6hr < 12
      THEN ROUND(CAST(h.urineoutput_6hr / w.weight / h.uo_tm_6hr AS DECIMAL(38, 9)), 4)
  END AS uo_rt_6hr,
  CASE
    WHEN h.uo_tm_12hr >= 12
      THEN ROUND(CAST(h.urineoutput_12hr / w.weight / h.uo_tm_12hr AS DECIMAL(38, 9)), 4)
  END AS uo_rt_12hr,
  CASE
    WHEN h.uo_tm_24hr >= 24
      THEN ROUND(CAST(h.urineoutput_24hr / w.weight / h.uo_tm_24hr AS DECIMAL(38, 9)), 4)
  END AS uo_rt_24hr,
  h.uo_tm_6hr,
  h.uo_tm_12hr,
  h.uo_tm_24hr
FROM hourly AS h
LEFT JOIN weight_durations AS w
  ON w.stay_id = h.stay_id AND h.charttime >= w.starttime AND h.charttime < w.endtime
