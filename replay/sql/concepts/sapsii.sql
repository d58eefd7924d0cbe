-- SAPS II (Le Gall 1993) of the first 24 h of each stay, and the probability of death in hospital it gives. The ratio of
-- oxygenation scores only under invasive ventilation, or between an hour before the first and 4 h after the last
-- charting of a CPAP or BiPAP mask.
WITH days AS (
  SELECT subject_id, hadm_id, stay_id, intime AS starttime, intime + INTERVAL '24' HOUR AS endtime
  FROM icustays
), masks AS (
  SELECT
    d.subject_id,
    GREATEST(MIN(c.charttime) - INTERVAL '1' HOUR, d.starttime) AS starttime,
    LEAST(MAX(c.charttime) + INTERVAL '4' HOUR, d.endtime) AS endtime
  FROM days AS d
  JOIN chartevents AS c ON c.stay_id = d.stay_id AND c.charttime > d.starttime AND c.charttime <= d.endtime
  WHERE c.itemid = 226732 AND REGEXP_MATCHES(LOWER(c.value), 'cpap mask|bipap')
  GROUP BY d.subject_id, d.stay_id, d.starttime, d.endtime
), oxygenation AS (
  SELECT d.stay_id, MIN(g.pao2fio2ratio) AS pao2fio2_min
  FROM days AS d
  JOIN bg AS g
    ON g.subject_id = d.subject_id
    AND g.specimen = 'ART.'
    AND g.charttime > d.starttime
    AND g.charttime <= d.endtime
  LEFT JOIN ventilation AS v
    ON v.stay_id = d.stay_id
    AND v.ventilation_status = 'InvasiveVent'
    AND g.charttime > v.starttime
    AND g.charttime <= v.endtime
  LEFT JOIN masks AS m
    ON m.subject_id = d.subject_id AND g.charttime > m.starttime AND g.charttime <= m.endtime
  WHERE v.stay_id IS NOT NULL OR m.subject_id IS NOT NULL
  GROUP BY d.stay_id
), coma AS (
  SELECT d.stay_id, MIN(g.gcs) AS gcs_min
  FROM days AS d
  JOIN gcs AS g ON g.stay_id = d.stay_id AND g.charttime > d.starttime AND g.charttime <= d.endtime
  GROUP BY d.stay_id
), vital AS (
  SELECT
    d.stay_id,
    MIN(v.heart_rate) AS heart_rate_min,
    MAX(v.heart_rate) AS heart_rate_max,
    MIN(v.sbp) AS sbp_min,
    MAX(v.sbp) AS sbp_max,
    MAX(v.temperature) AS temperature_max
  FROM days AS d
  JOIN vitalsign AS v ON v.subject_id = d.subject_id AND v.charttime > d.starttime AND v.charttime <= d.endtime
  GROUP BY d.stay_id
), urine AS (
  SELECT d.stay_id, SUM(u.urineoutput) AS urineoutput
  FROM days AS d
  JOIN urine_output AS u ON u.stay_id = d.stay_id AND u.charttime > d.starttime AND u.charttime <= d.endtime
  GROUP BY d.stay_id
), blood AS (
  SELECT
    d.stay_id,
    MAX(l.bun) AS bun_max,
    MIN(l.potassium) AS potassium_min,
    MAX(l.potassium) AS potassium_max,
    MIN(l.sodium) AS sodium_min,
    MAX(l.sodium) AS sodium_max,
    MIN(l.bicarbonate) AS bicarbonate_min,
    MIN(l.wbc) AS wbc_min,
    MAX(l.wbc) AS wbc_max,
    MAX(l.bilirubin_total) AS bilirubin_max
  FROM days AS d
  JOIN score_lab AS l ON l.subject_id = d.subject_id AND l.charttime > d.starttime AND l.charttime <= d.endtime
  GROUP BY d.stay_id
), surgery AS (
  SELECT
    hadm_id,
    CASE WHEN LOWER(curr_service) LIKE '%surg%' THEN 1 ELSE 0 END AS surgical,
    ROW_NUMBER() OVER (PARTITION BY hadm_id ORDER BY transfertime NULLS FIRST, curr_service) AS nth
  FROM services
), chronic AS (
  SELECT
    hadm_id,
    MAX(
      CASE
        WHEN icd_version = 9 AND REGEXP_MATCHES(icd_code, '^04[2-4]') THEN 17
        WHEN icd_version = 10 AND REGEXP_MATCHES(icd_code, '^B2[0-24]') THEN 17
        WHEN
          icd_version = 9
          AND (
            SUBSTRING(icd_code, 1, 5) BETWEEN '20000' AND '20238'
            OR SUBSTRING(icd_code, 1, 5) BETWEEN '20240' AND '20248'
            OR SUBSTRING(icd_code, 1, 5) BETWEEN '20250' AND '20382'
            OR SUBSTRING(icd_code, 1, 5) BETWEEN '20400' AND '20522'
            OR SUBSTRING(icd_code, 1, 5) BETWEEN '20580' AND '20702'
            OR SUBSTRING(icd_code, 1, 5) BETWEEN '20720' AND '20892'
            OR SUBSTRING(icd_code, 1, 4) IN ('2386', '2733')
          )
          THEN 10
        WHEN icd_version = 10 AND SUBSTRING(icd_code, 1, 3) BETWEEN 'C81' AND 'C96' THEN 10
        WHEN
          icd_version = 9
          AND (
            SUBSTRING(icd_code, 1, 4) BETWEEN '1960' AND '1991'
            OR SUBSTRING(icd_code, 1, 5) BETWEEN '20970' AND '20975'
            OR SUBSTRING(icd_code, 1, 5) IN ('20979', '78951')
          )
          THEN 9
        WHEN icd_version = 10 AND REGEXP_MATCHES(icd_code, '^(C7[7-9]|C800)') THEN 9
        ELSE 0
      END
    ) AS points
  FROM diagnoses_icd
  GROUP BY hadm_id
), scored AS (
  SELECT
    d.*,
    CASE
      WHEN a.age < 40 THEN 0
      WHEN a.age < 60 THEN 7
      WHEN a.age < 70 THEN 12
      WHEN a.age < 75 THEN 15
      WHEN a.age < 80 THEN 16
      WHEN a.age >= 80 THEN 18
    END AS age_score,
    CASE
      WHEN v.heart_rate_min < 40 THEN 11
      WHEN v.heart_rate_max >= 160 THEN 7
      WHEN v.heart_rate_max >= 120 THEN 4
      WHEN v.heart_rate_min < 70 THEN 2
      WHEN v.heart_rate_min IS NOT NULL THEN 0
    END AS hr_score,
    CASE
      WHEN v.sbp_min < 70 THEN 13
      WHEN v.sbp_min < 100 THEN 5
      WHEN v.sbp_max >= 200 THEN 2
      WHEN v.sbp_min IS NOT NULL THEN 0
    END AS sysbp_score,
    CASE WHEN v.temperature_max >= 39 THEN 3 WHEN v.temperature_max IS NOT NULL THEN 0 END AS temp_score,
    CASE
      WHEN o.pao2fio2_min < 100 THEN 11
      WHEN o.pao2fio2_min < 200 THEN 9
      WHEN o.pao2fio2_min >= 200 THEN 6
    END AS pao2fio2_score,
    CASE
      WHEN u.urineoutput < 500 THEN 11
      WHEN u.urineoutput < 1000 THEN 4
      WHEN u.urineoutput >= 1000 THEN 0
    END AS uo_score,
    CASE WHEN b.bun_max < 28 THEN 0 WHEN b.bun_max < 84 THEN 6 WHEN b.bun_max >= 84 THEN 10 END AS bun_score,
    CASE WHEN b.wbc_min < 1 THEN 12 WHEN b.wbc_max >= 20 THEN 3 WHEN b.wbc_max < 20 THEN 0 END AS wbc_score,
    CASE
      WHEN b.potassium_min < 3 OR b.potassium_max >= 5 THEN 3
      WHEN b.potassium_max < 5 THEN 0
    END AS potassium_score,
    CASE
      WHEN b.sodium_min < 125 THEN 5
      WHEN b.sodium_max >= 145 THEN 1
      WHEN b.sodium_max < 145 THEN 0
    END AS sodium_score,
    CASE
      WHEN b.bicarbonate_min < 15 THEN 6
      WHEN b.bicarbonate_min < 20 THEN 3
      WHEN b.bicarbonate_min >= 20 THEN 0
    END AS bicarbonate_score,
    CASE
      WHEN b.bilirubin_max < 4 THEN 0
      WHEN b.bilirubin_max < 6 THEN 4
      WHEN b.bilirubin_max >= 6 THEN 9
    END AS bilirubin_score,
    CASE
      WHEN c.gcs_min < 3 THEN NULL
      WHEN c.gcs_min < 6 THEN 26
      WHEN c.gcs_min < 9 THEN 13
      WHEN c.gcs_min < 11 THEN 7
      WHEN c.gcs_min < 14 THEN 5
      WHEN c.gcs_min <= 15 THEN 0
    END AS gcs_score,
    COALESCE(k.points, 0) AS comorbidity_score,
    CASE
      WHEN h.admission_type = 'ELECTIVE' AND y.surgical = 1 THEN 0
      WHEN h.admission_type <> 'ELECTIVE' AND y.surgical = 1 THEN 8
      ELSE 6
    END AS admissiontype_score
  FROM days AS d
  JOIN admissions AS h ON h.hadm_id = d.hadm_id
  LEFT JOIN age AS a ON a.hadm_id = d.hadm_id
  LEFT JOIN oxygenation AS o ON o.stay_id = d.stay_id
  LEFT JOIN coma AS c ON c.stay_id = d.stay_id
  LEFT JOIN vital AS v ON v.stay_id = d.stay_id
  LEFT JOIN urine AS u ON u.stay_id = d.stay_id
  LEFT JOIN blood AS b ON b.stay_id = d.stay_id
  LEFT JOIN surgery AS y ON y.hadm_id = d.hadm_id AND y.nth = 1
  LEFT JOIN chronic AS k ON k.hadm_id = d.hadm_id
), summed AS (
  SELECT
    *,
    COALESCE(age_score, 0)
    + COALESCE(hr_score, 0)
    + COALESCE(sysbp_score, 0)
    + COALESCE(temp_score, 0)
    + COALESCE(pao2fio2_score, 0)
    + COALESCE(uo_score, 0)
    + COALESCE(bun_score, 0)
    + COALESCE(wbc_score, 0)
    + COALESCE(potassium_score, 0)
    + COALESCE(sodium_score, 0)
    + COALESCE(bicarbonate_score, 0)
    + COALESCE(bilirubin_score, 0)
    + COALESCE(gcs_score, 0)
    + comorbidity_score
    + admissiontype_score AS sapsii
  FROM scored
)
SELECT
  *,
  1 / (1 + EXP(7.7631 - 0.0737 * sapsii - 0.9971 * LN(sapsii + 1))) AS sapsii_prob
FROM summed
