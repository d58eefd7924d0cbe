-- Every infusion of a vasoactive drug in one unit: mcg/kg/min, and units/hour for vasopressin.
-- Norepinephrine in mg/kg/min is a thousandfold, except where the weight is 1: those rates were typed as
-- mcg/kg/min. Phenylephrine in mcg/min is divided by the weight charted with the infusion.
SELECT
  stay_id,
  CASE itemid
    WHEN 221906 THEN 'norepinephrine'
    WHEN 221289 THEN 'epinephrine'
    WHEN 221749 THEN 'phenylephrine'
    WHEN 222315 THEN 'vasopressin'
    WHEN 221662 THEN 'dopamine'
    WHEN 221653 THEN 'dobutamine'
    ELSE 'milrinone'
  END AS agent,
  linkorderid,
  CASE
    WHEN itemid = 221906 AND rateuom = 'mg/kg/min' AND COALESCE(patientweight, 0) <> 1 THEN rate * 1000
    WHEN itemid = 221749 AND rateuom = 'mcg/min' THEN rate / NULLIF(patientweight, 0)
    WHEN itemid = 222315 AND rateuom = 'units/min' THEN rate * 60
    ELSE rate
  END AS vaso_rate,
  amount AS vaso_amount,
  starttime,
  endtime
FROM inputevents
WHERE itemid IN (221906, 221289, 221749, 222315, 221662, 221653, 221986)
