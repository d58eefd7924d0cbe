-- Stage of acute kidney injury (KDIGO 2012) whenever creatinine, urine or continuous renal replacement was charted:
-- of each, the highest of the three, and the highest of the last 6 h, which the official concept takes over all stays of
-- a patient by time since ICU admission. A stay with none of them keeps one row without a time.
WITH creatinine AS (
  SELECT
    *,
    CASE
      WHEN creat >= creat_low_past_7day * 3 THEN 3
      WHEN creat >= 4 AND (creat_low_past_48hr <= 3.7 OR creat >= 1.5 * creat_low_past_7day) THEN 3
      WHEN creat >= creat_low_past_7day * 2 THEN 2
      WHEN creat >= creat_low_past_48hr + 0.3 THEN 1
      WHEN creat >= creat_low_past_7day * 1.5 THEN 1
      ELSE 0
    END AS aki_stage_creat
  FROM kdigo_creatinine
), urine AS (
  SELECT
    u.stay_id,
    u.charttime,
    u.uo_rt_6hr,
    u.uo_rt_12hr,
    u.uo_rt_24hr,
    CASE
      WHEN u.uo_rt_6hr IS NULL THEN NULL
      WHEN u.charttime <= s.intime + INTERVAL '6' HOUR THEN 0
      WHEN u.uo_rt_24hr < 0.3 THEN 3
      WHEN u.uo_rt_12hr = 0 THEN 3
      WHEN u.uo_rt_12hr < 0.5 THEN 2
      WHEN u.uo_rt_6hr < 0.5 THEN 1
      ELSE 0
    END AS aki_stage_uo
  FROM kdigo_uo AS u
  JOIN icustays AS s ON s.stay_id = u.stay_id
), replaced AS (
  SELECT stay_id, charttime, 3 AS aki_stage_crrt
  FROM crrt
  WHERE crrt_mode IS NOT NULL
), moments AS (
  SELECT stay_id, charttime FROM creatinine
  UNION DISTINCT
  SELECT stay_id, charttime FROM urine
  UNION DISTINCT
  SELECT stay_id, charttime FROM replaced
), staged AS (
  SELECT
    s.subject_id,
    s.hadm_id,
    s.stay_id,
    m.charttime,
    c.creat_low_past_7day,
    c.creat_low_past_48hr,
    c.creat,
    c.aki_stage_creat,
    u.uo_rt_6hr,
    u.uo_rt_12hr,
    u.uo_rt_24hr,
    u.aki_stage_uo,
    r.aki_stage_crrt,
    GREATEST(
      COALESCE(c.aki_stage_creat, 0), COALESCE(u.aki_stage_uo, 0), COALESCE(r.aki_stage_crrt, 0)
    ) AS aki_stage,
    CAST(
      DATE_DIFF('day', CAST(s.intime AS DATE), CAST(m.charttime AS DATE)) * 86400
      + (EXTRACT(HOUR FROM m.charttime) - EXTRACT(HOUR FROM s.intime)) * 3600
      + (EXTRACT(MINUTE FROM m.charttime) - EXTRACT(MINUTE FROM s.intime)) * 60
      + EXTRACT(SECOND FROM m.charttime)
      - EXTRACT(SECOND FROM s.intime) AS BIGINT
    ) AS seconds
  FROM icustays AS s
  LEFT JOIN moments AS m ON m.stay_id = s.stay_id
  LEFT JOIN creatinine AS c ON c.stay_id = s.stay_id AND c.charttime = m.charttime
  LEFT JOIN urine AS u ON u.stay_id = s.stay_id AND u.charttime = m.charttime
  LEFT JOIN replaced AS r ON r.stay_id = s.stay_id AND r.charttime = m.charttime
)
SELECT
  *,
  MAX(aki_stage) OVER (
    PARTITION BY subject_id ORDER BY seconds NULLS FIRST RANGE BETWEEN 21600 PRECEDING AND CURRENT ROW
  ) AS aki_stage_smoothed
FROM staged
