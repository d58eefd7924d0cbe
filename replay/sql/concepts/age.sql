-- Age at each hospital admission. Dates are shifted patient by patient; `anchor_age` is the age in
-- `anchor_year`, and 91 stands for everyone above 89.
SELECT
  a.subject_id,
  a.hadm_id,
  a.admittime,
  p.anchor_age,
  p.anchor_year,
  p.anchor_age + EXTRACT(YEAR FROM a.admittime) - p.anchor_year AS age
FROM admissions AS a
JOIN patients AS p ON p.subject_id = a.subject_id
