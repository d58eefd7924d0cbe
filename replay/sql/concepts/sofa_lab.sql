-- The blood tests of the SOFA score, one row a specimen: total bilirubin and creatinine in mg/dL, platelets in
-- K/uL. Zero and negative numbers, and creatinine above 150, are errors of entry.
SELECT
  specimen_id,
  MAX(hadm_id) AS hadm_id,
  MAX(charttime) AS charttime,
  MAX(CASE WHEN itemid = 50885 THEN valuenum END) AS bilirubin_total,
  MAX(CASE WHEN itemid = 50912 AND valuenum <= 150 THEN valuenum END) AS creatinine,
  MAX(CASE WHEN itemid = 51265 THEN valuenum END) AS platelet
FROM labevents
WHERE itemid IN (50885, 50912, 51265) AND valuenum > 0
GROUP BY specimen_id
