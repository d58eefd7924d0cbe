-- Creatinine of a stay and the 7 days before it, mg/dL, with the lowest of the 48 h and of the 7 days before each. A
-- stay without any keeps one row without a time.
WITH measured AS (
  SELECT
    s.hadm_id,
    s.stay_id,
    l.charttime,
    AVG(l.valuenum) AS creat
  FROM icustays AS s
  LEFT JOIN labevents AS l
    ON l.subject_id = s.subject_id
    AND l.itemid = 50912
    AND l.valuenum <= 150
    AND l.charttime >= s.intime - INTERVAL '7' DAY
    AND l.charttime <= s.outtime
  GROUP BY s.hadm_id, s.stay_id, l.charttime
)
SELECT
  m.hadm_id,
  m.stay_id,
  m.charttime,
  MAX(m.creat) AS creat,
  MIN(CASE WHEN e.charttime >= m.charttime - INTERVAL '48' HOUR THEN e.creat END) AS creat_low_past_48hr,
  MIN(e.creat) AS creat_low_past_7day
FROM measured AS m
LEFT JOIN measured AS e
  ON e.stay_id = m.stay_id AND e.charttime < m.charttime AND e.charttime >= m.charttime - INTERVAL '7' DAY
GROUP BY m.hadm_id, m.stay_id, m.charttime
