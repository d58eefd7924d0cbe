-- The blood tests of the first-day scores, one row a specimen: mEq/L for bicarbonate, sodium and potassium, mg/dL for
-- urea nitrogen, creatinine and total bilirubin, K/uL for platelets and white cells. Zero, negative and impossibly large
-- numbers are errors of entry.
SELECT
  specimen_id,
  MAX(subject_id) AS subject_id,
  MAX(charttime) AS charttime,
  MAX(CASE WHEN itemid = 50882 AND valuenum <= 10000 THEN valuenum END) AS bicarbonate,
  MAX(CASE WHEN itemid = 51006 AND valuenum <= 300 THEN valuenum END) AS bun,
  MAX(CASE WHEN itemid = 50912 AND valuenum <= 150 THEN valuenum END) AS creatinine,
  MAX(CASE WHEN itemid = 50983 AND valuenum <= 200 THEN valuenum END) AS sodium,
  MAX(CASE WHEN itemid = 50971 AND valuenum <= 30 THEN valuenum END) AS potassium,
  MAX(CASE WHEN itemid = 50885 THEN valuenum END) AS bilirubin_total,
  MAX(CASE WHEN itemid = 51265 THEN valuenum END) AS platelet,
  MAX(CASE WHEN itemid = 51301 THEN valuenum END) AS wbc
FROM labevents
WHERE itemid IN (50882, 51006, 50912, 50983, 50971, 50885, 51265, 51301) AND valuenum > 0
GROUP BY specimen_id
