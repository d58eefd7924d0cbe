-- Which vasoactive drugs run together: a stay is cut at every start and end of any of them, and each segment
-- names the rates running through all of it. Two infusions of one drug at once give two rows.
WITH moments AS (
  SELECT stay_id, starttime AS moment FROM vasoactive_infusion
  UNION DISTINCT
  SELECT stay_id, endtime AS moment FROM vasoactive_infusion
), segments AS (
  SELECT
    stay_id,
    moment AS starttime,
    LEAD(moment) OVER (PARTITION BY stay_id ORDER BY moment) AS endtime
  FROM moments
), running AS (
  SELECT
    s.stay_id,
    s.starttime,
    s.endtime,
    i.agent,
    i.vaso_rate
  FROM segments AS s
  JOIN vasoactive_infusion AS i
    ON i.stay_id = s.stay_id AND i.starttime <= s.starttime AND i.endtime >= s.endtime
)
SELECT
  s.stay_id,
  s.starttime,
  s.endtime,
  dopamine.vaso_rate AS dopamine,
  epinephrine.vaso_rate AS epinephrine,
  norepinephrine.vaso_rate AS norepinephrine,
  phenylephrine.vaso_rate AS phenylephrine,
  vasopressin.vaso_rate AS vasopressin,
  dobutamine.vaso_rate AS dobutamine,
  milrinone.vaso_rate AS milrinone
FROM segments AS s
LEFT JOIN running AS dopamine
  ON dopamine.agent = 'dopamine' AND dopamine.stay_id = s.stay_id AND dopamine.starttime = s.starttime
LEFT JOIN running AS epinephrine
  ON epinephrine.agent = 'epinephrine' AND epinephrine.stay_id = s.stay_id AND epinephrine.starttime = s.starttime
LEFT JOIN running AS norepinephrine
  ON norepinephrine.agent = 'norepinephrine'
  AND norepinephrine.stay_id = s.stay_id
  AND norepinephrine.starttime = s.starttime
LEFT JOIN running AS phenylephrine
  ON phenylephrine.agent = 'phenylephrine'
  AND phenylephrine.stay_id = s.stay_id
  AND phenylephrine.starttime = s.starttime
LEFT JOIN running AS vasopressin
  ON vasopressin.agent = 'vasopressin' AND vasopressin.stay_id = s.stay_id AND vasopressin.starttime = s.starttime
LEFT JOIN running AS dobutamine
  ON dobutamine.agent = 'dobutamine' AND dobutamine.stay_id = s.stay_id AND dobutamine.starttime = s.starttime
LEFT JOIN running AS milrinone
  ON milrinone.agent = 'milrinone' AND milrinone.stay_id = s.stay_id AND milrinone.starttime = s.starttime
WHERE s.endtime IS NOT NULL
