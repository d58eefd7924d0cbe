-- Height, cm: as charted in centimeters (226730), which the official concept requires; inches (226707) alone give
-- no row there. Heights of 120 cm or less and of 230 cm or more are dropped.
SELECT
  c.subject_id,
  c.stay_id,
  c.charttime,
  CAST(ROUND(CAST(c.valuenum AS DECIMAL), 2) AS DOUBLE) AS height
FROM chartevents AS c
LEFT JOIN chartevents AS i
  ON i.subject_id = c.subject_id AND i.charttime = c.charttime AND i.itemid = 226707 AND i.valuenum IS NOT NULL
WHERE c.itemid = 226730 AND c.valuenum > 120 AND c.valuenum < 230
