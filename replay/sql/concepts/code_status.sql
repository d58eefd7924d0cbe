-- Charted goals of care (223758): full code, comfort measures only, no
-- intubation, no resuscitation. The official concept also reads orders of physicians, which are not read here.
-- `known_time` is when the charting was filed.
SELECT
  subject_id,
  hadm_id,
  stay_id,
  charttime,
  CASE WHEN value = 'Full code' THEN 1 ELSE 0 END AS fullcode,
  CASE WHEN value = 'Comfort measures only' THEN 1 ELSE 0 END AS cmo,
  CASE WHEN value IN ('DNI (do not intubate)', 'DNR / DNI') THEN 1 ELSE 0 END AS dni,
  CASE WHEN value IN ('DNR (do not resuscitate)', 'DNR / DNI') THEN 1 ELSE 0 END AS dnr,
  COALESCE(storetime, charttime) AS known_time
FROM chartevents
WHERE itemid = 223758
