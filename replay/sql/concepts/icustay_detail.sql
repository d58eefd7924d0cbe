-- One row an ICU stay with its patient and hospital admission, and its place in their sequence.
-- Whole days and hours count midnights and full hours passed, as the official concept does.
SELECT
  s.subject_id,
  s.hadm_id,
  s.stay_id,
  p.gender,
  p.dod,
  a.admittime,
  a.dischtime,
  DATE_DIFF('day', CAST(a.admittime AS DATE), CAST(a.dischtime AS DATE)) AS los_hospital,
  p.anchor_age + EXTRACT(YEAR FROM a.admittime) - p.anchor_year AS admission_age,
  a.race,
  a.hospital_expire_flag,
  DENSE_RANK() OVER (PARTITION BY a.subject_id ORDER BY a.admittime) AS hospstay_seq,
  DENSE_RANK() OVER (PARTITION BY a.subject_id ORDER BY a.admittime) = 1 AS first_hosp_stay,
  s.intime AS icu_intime,
  s.outtime AS icu_outtime,
  ROUND(
    CAST(
      DATE_DIFF('day', CAST(s.intime AS DATE), CAST(s.outtime AS DATE)) * 24
      + EXTRACT(HOUR FROM s.outtime)
      - EXTRACT(HOUR FROM s.intime) AS DECIMAL(38, 9)
    ) / 24,
    2
  ) AS los_icu,
  DENSE_RANK() OVER (PARTITION BY s.hadm_id ORDER BY s.intime) AS icustay_seq,
  DENSE_RANK() OVER (PARTITION BY s.hadm_id ORDER BY s.intime) = 1 AS first_icu_stay
FROM icustays AS s
JOIN admissions AS a ON a.hadm_id = s.hadm_id
JOIN patients AS p ON p.subject_id = s.subject_id
