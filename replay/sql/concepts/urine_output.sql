-- Urine charted at each time, mL. Irrigation going in (227488) is subtracted from what comes out (227489), so
-- a single time may be negative. `known_time` is when the last part of the row was filed.
SELECT
  stay_id,
  charttime,
  SUM(CASE WHEN itemid = 227488 AND value > 0 THEN -value ELSE value END) AS urineoutput,
  MAX(COALESCE(storetime, charttime)) AS known_time
FROM outputevents
WHERE
  itemid IN (
    226559, 226560, 226561, 226584, 226563, 226564, 226565, 226567, 226557, 226558, 227488, 227489
  )
GROUP BY stay_id, charttime
