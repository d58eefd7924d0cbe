-- SOFA score of the first day. It is not the hourly score's: a ratio under ventilation scores only below 200, any dose
-- begun in the window counts, and urine is what was charted, however short the day.
WITH infusions AS (
  SELECT
    s.stay_id,
    MAX(CASE WHEN i.agent = 'norepinephrine' THEN i.vaso_rate END) AS rate_norepinephrine,
    MAX(CASE WHEN i.agent = 'epinephrine' THEN i.vaso_rate END) AS rate_epinephrine,
    MAX(CASE WHEN i.agent = 'dopamine' THEN i.vaso_rate END) AS rate_dopamine,
    MAX(CASE WHEN i.agent = 'dobutamine' THEN i.vaso_rate END) AS rate_dobutamine
  FROM icustays AS s
  JOIN vasoactive_infusion AS i
    ON i.stay_id = s.stay_id
    AND i.starttime >= s.intime - INTERVAL '6' HOUR
    AND i.starttime <= s.intime + INTERVAL '1' DAY
  GROUP BY s.stay_id
), oxygenation AS (
  SELECT
    s.stay_id,
    MIN(CASE WHEN v.stay_id IS NULL THEN g.pao2fio2ratio END) AS novent_min,
    MIN(CASE WHEN v.stay_id IS NOT NULL THEN g.pao2fio2ratio END) AS vent_min
  FROM icustays AS s
  JOIN bg AS g
    ON g.subject_id = s.subject_id
    AND g.specimen = 'ART.'
    AND g.charttime >= s.intime - INTERVAL '6' HOUR
    AND g.charttime <= s.intime + INTERVAL '1' DAY
  LEFT JOIN ventilation AS v
    ON v.stay_id = s.stay_id
    AND v.ventilation_status = 'InvasiveVent'
    AND g.charttime >= v.starttime
    AND g.charttime <= v.endtime
  GROUP BY s.stay_id
), scored AS (
  SELECT
    d.stay_id,
    CASE
      WHEN o.vent_min < 100 THEN 4
      WHEN o.vent_min < 200 THEN 3
      WHEN o.novent_min < 300 THEN 2
      WHEN o.novent_min < 400 THEN 1
      WHEN COALESCE(o.vent_min, o.novent_min) IS NOT NULL THEN 0
    END AS respiration,
    CASE
      WHEN d.platelet_min < 20 THEN 4
      WHEN d.platelet_min < 50 THEN 3
      WHEN d.platelet_min < 100 THEN 2
      WHEN d.platelet_min < 150 THEN 1
      WHEN d.platelet_min IS NOT NULL THEN 0
    END AS coagulation,
    CASE
      WHEN d.bilirubin_max >= 12 THEN 4
      WHEN d.bilirubin_max >= 6 THEN 3
      WHEN d.bilirubin_max >= 2 THEN 2
      WHEN d.bilirubin_max >= 1.2 THEN 1
      WHEN d.bilirubin_max IS NOT NULL THEN 0
    END AS liver,
    CASE
      WHEN
        i.rate_dopamine > 15
        OR i.rate_epinephrine > CAST(0.1 AS FLOAT)
        OR i.rate_norepinephrine > CAST(0.1 AS FLOAT)
        THEN 4
      WHEN i.rate_dopamine > 5 OR i.rate_epinephrine > 0 OR i.rate_norepinephrine > 0 THEN 3
      WHEN i.rate_dopamine > 0 OR i.rate_dobutamine > 0 THEN 2
      WHEN d.mbp_min < 70 THEN 1
      WHEN
        COALESCE(d.mbp_min, i.rate_dopamine, i.rate_dobutamine, i.rate_epinephrine, i.rate_norepinephrine) IS NOT NULL
        THEN 0
    END AS cardiovascular,
    CASE
      WHEN d.gcs_min < 6 THEN 4
      WHEN d.gcs_min < 10 THEN 3
      WHEN d.gcs_min < 13 THEN 2
      WHEN d.gcs_min < 15 THEN 1
      WHEN d.gcs_min IS NOT NULL THEN 0
    END AS cns,
    CASE
      WHEN d.creatinine_max >= 5 OR d.urineoutput < 200 THEN 4
      WHEN d.creatinine_max >= 3.5 OR d.urineoutput < 500 THEN 3
      WHEN d.creatinine_max >= 2 THEN 2
      WHEN d.creatinine_max >= 1.2 THEN 1
      WHEN COALESCE(d.urineoutput, d.creatinine_max) IS NOT NULL THEN 0
    END AS renal
  FROM first_day AS d
  LEFT JOIN infusions AS i ON i.stay_id = d.stay_id
  LEFT JOIN oxygenation AS o ON o.stay_id = d.stay_id
)
SELECT
  s.subject_id,
  s.hadm_id,
  s.stay_id,
  COALESCE(c.respiration, 0)
  + COALESCE(c.coagulation, 0)
  + COALESCE(c.liver, 0)
  + COALESCE(c.cardiovascular, 0)
  + COALESCE(c.cns, 0)
  + COALESCE(c.renal, 0) AS sofa,
  c.respiration,
  c.coagulation,
  c.liver,
  c.cardiovascular,
  c.cns,
  c.renal
FROM icustays AS s
JOIN scored AS c ON c.stay_id = s.stay_id
