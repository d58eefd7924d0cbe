-- When a patient was truly in the ICU: from the first to the last charted heart rate (220045).
SELECT
  s.subject_id,
  s.hadm_id,
  s.stay_id,
  MIN(c.charttime) AS intime_hr,
  MAX(c.charttime) AS outtime_hr
FROM icustays AS s
LEFT JOIN chartevents AS c ON c.stay_id = s.stay_id AND c.itemid = 220045
GROUP BY s.subject_id, s.hadm_id, s.stay_id
