-- SOFA score (Vincent 1996) for every hour of a stay: the six components of the hour, the worst of each over
-- the last 24 hours, and their sum. A component never measured counts 0 in the sum. A measurement belongs to
-- the hour that ends at its time rounded up to the full hour.
WITH hours AS (
  SELECT
    h.stay_id,
    s.subject_id,
    s.hadm_id,
    h.hr,
    h.endtime
  FROM icustay_hourly AS h
  JOIN icustays AS s ON s.stay_id = h.stay_id
), oxygenation AS (
  SELECT
    h.stay_id,
    h.hr,
    MIN(CASE WHEN v.stay_id IS NULL THEN g.pao2fio2ratio END) AS pao2fio2ratio_novent,
    MIN(CASE WHEN v.stay_id IS NOT NULL THEN g.pao2fio2ratio END) AS pao2fio2ratio_vent
  FROM (
    SELECT
      subject_id,
      charttime,
      pao2fio2ratio,
      DATE_TRUNC('hour', charttime - INTERVAL '1' MICROSECOND) + INTERVAL '1' HOUR AS endtime
    FROM bg
    WHERE specimen = 'ART.'
  ) AS g
  JOIN hours AS h ON h.subject_id = g.subject_id AND h.endtime = g.endtime
  LEFT JOIN ventilation AS v
    ON v.stay_id = h.stay_id
    AND v.ventilation_status = 'InvasiveVent'
    AND g.charttime >= v.starttime
    AND g.charttime <= v.endtime
  GROUP BY h.stay_id, h.hr
), pressure AS (
  SELECT
    stay_id,
    DATE_TRUNC('hour', charttime - INTERVAL '1' MICROSECOND) + INTERVAL '1' HOUR AS endtime,
    MIN(mbp) AS meanbp_min
  FROM vitalsign
  GROUP BY 1, 2
), coma AS (
  SELECT
    stay_id,
    DATE_TRUNC('hour', charttime - INTERVAL '1' MICROSECOND) + INTERVAL '1' HOUR AS endtime,
    MIN(gcs) AS gcs_min
  FROM gcs
  GROUP BY 1, 2
), labs AS (
  SELECT
    hadm_id,
    DATE_TRUNC('hour', charttime - INTERVAL '1' MICROSECOND) + INTERVAL '1' HOUR AS endtime,
    MAX(bilirubin_total) AS bilirubin_max,
    MAX(creatinine) AS creatinine_max,
    MIN(platelet) AS platelet_min
  FROM sofa_lab
  GROUP BY 1, 2
), urine AS (
  SELECT
    stay_id,
    DATE_TRUNC('hour', charttime - INTERVAL '1' MICROSECOND) + INTERVAL '1' HOUR AS endtime,
    -- only where about a day was observed: mL a day
    MAX(CASE WHEN uo_tm_24hr BETWEEN 22 AND 30 THEN urineoutput_24hr / uo_tm_24hr * 24 END) AS uo_24hr
  FROM urine_output_24h
  GROUP BY 1, 2
), infusions AS (
  -- rates running as the hour ends
  SELECT
    h.stay_id,
    h.hr,
    MAX(CASE WHEN i.agent = 'epinephrine' THEN i.vaso_rate END) AS rate_epinephrine,
    MAX(CASE WHEN i.agent = 'norepinephrine' THEN i.vaso_rate END) AS rate_norepinephrine,
    MAX(CASE WHEN i.agent = 'dopamine' THEN i.vaso_rate END) AS rate_dopamine,
    MAX(CASE WHEN i.agent = 'dobutamine' THEN i.vaso_rate END) AS rate_dobutamine
  FROM hours AS h
  JOIN vasoactive_infusion AS i
    ON i.stay_id = h.stay_id AND h.endtime > i.starttime AND h.endtime <= i.endtime
  GROUP BY h.stay_id, h.hr
), measured AS (
  SELECT
    h.stay_id,
    h.hr,
    h.endtime - INTERVAL '1' HOUR AS starttime,
    h.endtime,
    o.pao2fio2ratio_novent,
    o.pao2fio2ratio_vent,
    i.rate_epinephrine,
    i.rate_norepinephrine,
    i.rate_dopamine,
    i.rate_dobutamine,
    p.meanbp_min,
    c.gcs_min,
    u.uo_24hr,
    l.bilirubin_max,
    l.creatinine_max,
    l.platelet_min
  FROM hours AS h
  LEFT JOIN oxygenation AS o ON o.stay_id = h.stay_id AND o.hr = h.hr
  LEFT JOIN infusions AS i ON i.stay_id = h.stay_id AND i.hr = h.hr
  LEFT JOIN pressure AS p ON p.stay_id = h.stay_id AND p.endtime = h.endtime
  LEFT JOIN coma AS c ON c.stay_id = h.stay_id AND c.endtime = h.endtime
  LEFT JOIN urine AS u ON u.stay_id = h.stay_id AND u.endtime = h.endtime
  LEFT JOIN labs AS l ON l.hadm_id = h.hadm_id AND l.endtime = h.endtime
), scored AS (
  SELECT
    *,
    CASE
      WHEN pao2fio2ratio_vent < 100 THEN 4
      WHEN pao2fio2ratio_vent < 200 THEN 3
      WHEN pao2fio2ratio_novent < 300 OR pao2fio2ratio_vent < 300 THEN 2
      WHEN pao2fio2ratio_novent < 400 OR pao2fio2ratio_vent < 400 THEN 1
      WHEN COALESCE(pao2fio2ratio_vent, pao2fio2ratio_novent) IS NOT NULL THEN 0
    END AS respiration,
    CASE
      WHEN platelet_min < 20 THEN 4
      WHEN platelet_min < 50 THEN 3
      WHEN platelet_min < 100 THEN 2
      WHEN platelet_min < 150 THEN 1
      WHEN platelet_min IS NOT NULL THEN 0
    END AS coagulation,
    CASE
      WHEN bilirubin_max >= 12 THEN 4
      WHEN bilirubin_max >= 6 THEN 3
      WHEN bilirubin_max >= 2 THEN 2
      WHEN bilirubin_max >= 1.2 THEN 1
      WHEN bilirubin_max IS NOT NULL THEN 0
    END AS liver,
    CASE
      WHEN
        rate_dopamine > 15
        OR rate_epinephrine > CAST(0.1 AS FLOAT)
        OR rate_norepinephrine > CAST(0.1 AS FLOAT)
        THEN 4
      WHEN rate_dopamine > 5 OR rate_epinephrine > 0 OR rate_norepinephrine > 0 THEN 3
      WHEN rate_dopamine > 0 OR rate_dobutamine > 0 THEN 2
      WHEN meanbp_min < 70 THEN 1
      WHEN
        COALESCE(meanbp_min, rate_dopamine, rate_dobutamine, rate_epinephrine, rate_norepinephrine) IS NOT NULL
        THEN 0
    END AS cardiovascular,
    CASE
      WHEN gcs_min < 6 THEN 4
      WHEN gcs_min < 10 THEN 3
      WHEN gcs_min < 13 THEN 2
      WHEN gcs_min < 15 THEN 1
      WHEN gcs_min IS NOT NULL THEN 0
    END AS cns,
    CASE
      WHEN creatinine_max >= 5 OR uo_24hr < 200 THEN 4
      WHEN creatinine_max >= 3.5 OR uo_24hr < 500 THEN 3
      WHEN creatinine_max >= 2 THEN 2
      WHEN creatinine_max >= 1.2 THEN 1
      WHEN COALESCE(uo_24hr, creatinine_max) IS NOT NULL THEN 0
    END AS renal
  FROM measured
), worst AS (
  SELECT
    *,
    COALESCE(
      MAX(respiration) OVER (PARTITION BY stay_id ORDER BY hr NULLS FIRST ROWS BETWEEN 23 PRECEDING AND CURRENT ROW), 0
    ) AS respiration_24hours,
    COALESCE(
      MAX(coagulation) OVER (PARTITION BY stay_id ORDER BY hr NULLS FIRST ROWS BETWEEN 23 PRECEDING AND CURRENT ROW), 0
    ) AS coagulation_24hours,
    COALESCE(
      MAX(liver) OVER (PARTITION BY stay_id ORDER BY hr NULLS FIRST ROWS BETWEEN 23 PRECEDING AND CURRENT ROW), 0
    ) AS liver_24hours,
    COALESCE(
      MAX(cardiovascular) OVER (PARTITION BY stay_id ORDER BY hr NULLS FIRST ROWS BETWEEN 23 PRECEDING AND CURRENT ROW), 0
    ) AS cardiovascular_24hours,
    COALESCE(
      MAX(cns) OVER (PARTITION BY stay_id ORDER BY hr NULLS FIRST ROWS BETWEEN 23 PRECEDING AND CURRENT ROW), 0
    ) AS cns_24hours,
    COALESCE(
      MAX(renal) OVER (PARTITION BY stay_id ORDER BY hr NULLS FIRST ROWS BETWEEN 23 PRECEDING AND CURRENT ROW), 0
    ) AS renal_24hours
  FROM scored
)
SELECT
  *,
  respiration_24hours
  + coagulation_24hours
  + liver_24hours
  + cardiovascular_24hours
  + cns_24hours
  + renal_24hours AS sofa_24hours
FROM worst
WHERE hr >= 0
