-- OASIS (Johnson 2013) of the first day, and the probability of death in hospital it gives. `heartrate`, `meanbp`,
-- `resprate` and `temp` are the value that was scored: the worse extreme, or the middle of both where neither scores.
WITH surgery AS (
  SELECT s.stay_id, MAX(CASE WHEN LOWER(v.curr_service) LIKE '%surg%' OR v.curr_service = 'ORTHO' THEN 1 ELSE 0 END) AS surgical
  FROM icustays AS s
  LEFT JOIN services AS v ON v.hadm_id = s.hadm_id AND v.transfertime < s.intime + INTERVAL '1' DAY
  GROUP BY s.stay_id
), invasive AS (
  SELECT s.stay_id, MAX(CASE WHEN v.stay_id IS NOT NULL THEN 1 ELSE 0 END) AS mechvent
  FROM icustays AS s
  LEFT JOIN ventilation AS v
    ON v.stay_id = s.stay_id
    AND v.ventilation_status = 'InvasiveVent'
    AND v.starttime <= s.intime + INTERVAL '1' DAY
    AND v.endtime >= s.intime
  GROUP BY s.stay_id
), measured AS (
  SELECT
    s.subject_id,
    s.hadm_id,
    g.age,
    DATE_DIFF('day', CAST(a.admittime AS DATE), CAST(s.intime AS DATE)) * 1440
    + (EXTRACT(HOUR FROM s.intime) - EXTRACT(HOUR FROM a.admittime)) * 60
    + EXTRACT(MINUTE FROM s.intime)
    - EXTRACT(MINUTE FROM a.admittime) AS preiculos,
    i.mechvent,
    CASE
      WHEN a.admission_type = 'ELECTIVE' AND y.surgical = 1 THEN 1
      WHEN a.admission_type IS NOT NULL THEN 0
    END AS electivesurgery,
    d.*
  FROM icustays AS s
  JOIN admissions AS a ON a.hadm_id = s.hadm_id
  JOIN first_day AS d ON d.stay_id = s.stay_id
  JOIN surgery AS y ON y.stay_id = s.stay_id
  JOIN invasive AS i ON i.stay_id = s.stay_id
  LEFT JOIN age AS g ON g.hadm_id = s.hadm_id
), scored AS (
  SELECT
    *,
    CASE
      WHEN preiculos < 10.2 THEN 5
      WHEN preiculos < 297 THEN 3
      WHEN preiculos < 1440 THEN 0
      WHEN preiculos < 18708 THEN 2
      WHEN preiculos IS NOT NULL THEN 1
    END AS preiculos_score,
    CASE
      WHEN age < 24 THEN 0
      WHEN age <= 53 THEN 3
      WHEN age <= 77 THEN 6
      WHEN age <= 89 THEN 9
      WHEN age IS NOT NULL THEN 7
    END AS age_score,
    CASE
      WHEN gcs_min <= 7 THEN 10
      WHEN gcs_min < 14 THEN 4
      WHEN gcs_min = 14 THEN 3
      WHEN gcs_min IS NOT NULL THEN 0
    END AS gcs_score,
    CASE
      WHEN heart_rate_max > 125 THEN 6
      WHEN heart_rate_min < 33 THEN 4
      WHEN heart_rate_max >= 107 THEN 3
      WHEN heart_rate_max >= 89 AND heart_rate_max <= 106 THEN 1
      WHEN heart_rate_max IS NOT NULL THEN 0
    END AS heart_rate_score,
    CASE
      WHEN heart_rate_max > 125 THEN heart_rate_max
      WHEN heart_rate_min < 33 THEN heart_rate_min
      WHEN heart_rate_max >= 107 OR heart_rate_max >= 89 AND heart_rate_max <= 106 THEN heart_rate_max
      ELSE (heart_rate_min + heart_rate_max) / 2
    END AS heartrate,
    CASE
      WHEN mbp_min < 20.65 THEN 4
      WHEN mbp_min < 51 THEN 3
      WHEN mbp_max > 143.44 THEN 3
      WHEN mbp_min < 61.33 THEN 2
      WHEN mbp_min IS NOT NULL THEN 0
    END AS mbp_score,
    CASE
      WHEN mbp_min < 51 THEN mbp_min
      WHEN mbp_max > 143.44 THEN mbp_max
      WHEN mbp_min < 61.33 THEN mbp_min
      ELSE (mbp_min + mbp_max) / 2
    END AS meanbp,
    CASE
      WHEN resp_rate_min < 6 THEN 10
      WHEN resp_rate_max > 44 THEN 9
      WHEN resp_rate_max > 30 THEN 6
      WHEN resp_rate_max > 22 OR resp_rate_min < 13 THEN 1
      WHEN resp_rate_min IS NOT NULL THEN 0
    END AS resp_rate_score,
    CASE
      WHEN resp_rate_min < 6 THEN resp_rate_min
      WHEN resp_rate_max > 22 THEN resp_rate_max
      WHEN resp_rate_min < 13 THEN resp_rate_min
      ELSE (resp_rate_min + resp_rate_max) / 2
    END AS resprate,
    CASE
      WHEN temperature_max > 39.88 THEN 6
      WHEN temperature_min >= 33.22 AND temperature_min <= 35.93 THEN 4
      WHEN temperature_max >= 33.22 AND temperature_max <= 35.93 THEN 4
      WHEN temperature_min < 33.22 THEN 3
      WHEN temperature_min > 35.93 AND temperature_min <= 36.39 THEN 2
      WHEN temperature_max >= 36.89 THEN 2
      WHEN temperature_max IS NOT NULL THEN 0
    END AS temp_score,
    CASE
      WHEN temperature_max > 39.88 THEN temperature_max
      WHEN temperature_min >= 33.22 AND temperature_min <= 35.93 THEN temperature_min
      WHEN temperature_max >= 33.22 AND temperature_max <= 35.93 THEN temperature_max
      WHEN temperature_min <= 36.39 THEN temperature_min
      WHEN temperature_max >= 36.89 THEN temperature_max
      ELSE (temperature_min + temperature_max) / 2
    END AS temp,
    CASE
      WHEN urineoutput < 671.09 THEN 10
      WHEN urineoutput > 6896.80 THEN 8
      WHEN urineoutput <= 1426.99 THEN 5
      WHEN urineoutput >= 1427.00 AND urineoutput <= 2544.14 THEN 1
      WHEN urineoutput IS NOT NULL THEN 0
    END AS urineoutput_score,
    9 * mechvent AS mechvent_score,
    6 * (1 - electivesurgery) AS electivesurgery_score
  FROM measured
), summed AS (
  SELECT
    *,
    COALESCE(age_score, 0)
    + COALESCE(preiculos_score, 0)
    + COALESCE(gcs_score, 0)
    + COALESCE(heart_rate_score, 0)
    + COALESCE(mbp_score, 0)
    + COALESCE(resp_rate_score, 0)
    + COALESCE(temp_score, 0)
    + COALESCE(urineoutput_score, 0)
    + COALESCE(mechvent_score, 0)
    + COALESCE(electivesurgery_score, 0) AS oasis
  FROM scored
)
SELECT
  *,
  gcs_min AS gcs,
  1 / (1 + EXP(6.1746 - 0.1275 * oasis)) AS oasis_prob
FROM summed
