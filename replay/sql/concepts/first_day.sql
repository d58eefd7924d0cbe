-- Extremes of the first day of each stay, from 6 h before to 24 h after ICU admission; urine from admission on.
WITH vital AS (
  SELECT
    s.stay_id,
    MIN(v.heart_rate) AS heart_rate_min,
    MAX(v.heart_rate) AS heart_rate_max,
    MIN(v.mbp) AS mbp_min,
    MAX(v.mbp) AS mbp_max,
    MIN(v.resp_rate) AS resp_rate_min,
    MAX(v.resp_rate) AS resp_rate_max,
    MIN(v.temperature) AS temperature_min,
    MAX(v.temperature) AS temperature_max
  FROM icustays AS s
  JOIN vitalsign AS v
    ON v.stay_id = s.stay_id
    AND v.charttime >= s.intime - INTERVAL '6' HOUR
    AND v.charttime <= s.intime + INTERVAL '1' DAY
  GROUP BY s.stay_id
), coma AS (
  SELECT s.stay_id, MIN(g.gcs) AS gcs_min
  FROM icustays AS s
  JOIN gcs AS g
    ON g.stay_id = s.stay_id
    AND g.charttime >= s.intime - INTERVAL '6' HOUR
    AND g.charttime <= s.intime + INTERVAL '1' DAY
  GROUP BY s.stay_id
), urine AS (
  SELECT s.stay_id, SUM(u.urineoutput) AS urineoutput
  FROM icustays AS s
  JOIN urine_output AS u
    ON u.stay_id = s.stay_id AND u.charttime >= s.intime AND u.charttime <= s.intime + INTERVAL '1' DAY
  GROUP BY s.stay_id
), blood AS (
  SELECT
    s.stay_id,
    MIN(l.platelet) AS platelet_min,
    MAX(l.creatinine) AS creatinine_max,
    MAX(l.bilirubin_total) AS bilirubin_max
  FROM icustays AS s
  JOIN score_lab AS l
    ON l.subject_id = s.subject_id
    AND l.charttime >= s.intime - INTERVAL '6' HOUR
    AND l.charttime <= s.intime + INTERVAL '1' DAY
  GROUP BY s.stay_id
)
SELECT
  s.stay_id,
  vital.heart_rate_min,
  vital.heart_rate_max,
  vital.mbp_min,
  vital.mbp_max,
  vital.resp_rate_min,
  vital.resp_rate_max,
  vital.temperature_min,
  vital.temperature_max,
  coma.gcs_min,
  urine.urineoutput,
  blood.platelet_min,
  blood.creatinine_max,
  blood.bilirubin_max
FROM icustays AS s
LEFT JOIN vital ON vital.stay_id = s.stay_id
LEFT JOIN coma ON coma.stay_id = s.stay_id
LEFT JOIN urine ON urine.stay_id = s.stay_id
LEFT JOIN blood ON blood.stay_id = s.stay_id
