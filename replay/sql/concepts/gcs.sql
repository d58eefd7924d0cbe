-- Glasgow Coma Scale at each charting: motor (223901) + verbal (223900) + eyes (220739).
-- The verbal score of an intubated patient ("No Response-ETT") is 0 and the total then counts as 15, because
-- speech cannot be judged. A part left out is taken from the charting before if that is less than 6 h old,
-- else full marks; after an intubated charting it gets full marks.
WITH charted AS (
  SELECT
    subject_id,
    stay_id,
    charttime,
    MAX(COALESCE(storetime, charttime)) AS known_time,
    MAX(CASE WHEN itemid = 223901 THEN valuenum END) AS motor,
    MAX(
      CASE WHEN itemid = 223900 AND value = 'No Response-ETT' THEN 0 WHEN itemid = 223900 THEN valuenum END
    ) AS verbal,
    MAX(CASE WHEN itemid = 220739 THEN valuenum END) AS eyes,
    MAX(CASE WHEN itemid = 223900 AND value = 'No Response-ETT' THEN 1 ELSE 0 END) AS gcs_unable
  FROM chartevents
  WHERE itemid IN (223901, 223900, 220739)
  GROUP BY subject_id, stay_id, charttime
), before AS (
  SELECT
    *,
    LAG(charttime) OVER (PARTITION BY stay_id ORDER BY charttime) > charttime - INTERVAL '6' HOUR AS is_recent,
    LAG(motor) OVER (PARTITION BY stay_id ORDER BY charttime) AS last_motor,
    LAG(verbal) OVER (PARTITION BY stay_id ORDER BY charttime) AS last_verbal,
    LAG(eyes) OVER (PARTITION BY stay_id ORDER BY charttime) AS last_eyes
  FROM charted
), carried AS (
  SELECT
    subject_id,
    stay_id,
    charttime,
    known_time,
    motor,
    verbal,
    eyes,
    gcs_unable,
    CASE WHEN is_recent THEN last_motor END AS motor_before,
    CASE WHEN is_recent THEN last_verbal END AS verbal_before,
    CASE WHEN is_recent THEN last_eyes END AS eyes_before
  FROM before
)
SELECT
  subject_id,
  stay_id,
  charttime,
  CASE
    WHEN COALESCE(verbal, verbal_before) = 0 THEN 15
    WHEN verbal_before = 0 THEN COALESCE(motor, 6) + verbal + COALESCE(eyes, 4)
    ELSE COALESCE(motor, motor_before, 6) + COALESCE(verbal, verbal_before, 5) + COALESCE(eyes, eyes_before, 4)
  END AS gcs,
  COALESCE(motor, motor_before) AS gcs_motor,
  COALESCE(verbal, verbal_before) AS gcs_verbal,
  COALESCE(eyes, eyes_before) AS gcs_eyes,
  gcs_unable,
  known_time
FROM carried
