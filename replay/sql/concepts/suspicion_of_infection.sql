-- Suspected infection, one row an antibiotic prescription: a culture in the 72 h before it, or within 24 h
-- after it (3 days and 1 day where only the culture's date is known). Of several the earliest counts. Cultures
-- are matched by patient, because a third of them carry no admission. The suspicion begins with whichever of
-- culture and antibiotic came first.
WITH given AS (
  SELECT
    subject_id,
    hadm_id,
    stay_id,
    antibiotic,
    starttime AS antibiotic_time,
    DATE_TRUNC('day', starttime) AS antibiotic_day,
    ROW_NUMBER() OVER (
      PARTITION BY subject_id
      ORDER BY
        starttime NULLS FIRST,
        stoptime NULLS FIRST,
        antibiotic NULLS FIRST,
        hadm_id NULLS FIRST,
        stay_id NULLS FIRST
    ) AS ab_id
  FROM antibiotic
), cultures AS (
  SELECT
    micro_specimen_id,
    MAX(subject_id) AS subject_id,
    DATE_TRUNC('day', MAX(chartdate)) AS culture_day,
    MAX(charttime) AS charttime,
    COALESCE(MAX(charttime), DATE_TRUNC('day', MAX(chartdate))) AS culture_time,
    MAX(spec_type_desc) AS specimen,
    -- 90856 and 90760 are comments on the culture, not organisms
    MAX(
      CASE
        WHEN org_name <> '' AND org_name <> 'CANCELLED' AND org_itemid NOT IN (90856, 90760) THEN 1
        ELSE 0
      END
    ) AS positive_culture
  FROM microbiologyevents
  GROUP BY micro_specimen_id
), culture_first AS (
  SELECT
    g.subject_id,
    g.ab_id,
    c.culture_time,
    c.specimen,
    c.positive_culture,
    ROW_NUMBER() OVER (
      PARTITION BY g.subject_id, g.ab_id
      ORDER BY
        c.culture_day NULLS FIRST,
        c.charttime NULLS LAST,
        c.positive_culture DESC,
        c.micro_specimen_id
    ) AS nth
  FROM given AS g
  JOIN cultures AS c
    ON c.subject_id = g.subject_id
    AND (
      (g.antibiotic_time > c.charttime AND g.antibiotic_time <= c.charttime + INTERVAL '72' HOUR)
      OR (
        c.charttime IS NULL
        AND g.antibiotic_day >= c.culture_day
        AND g.antibiotic_day <= c.culture_day + INTERVAL '3' DAY
      )
    )
), antibiotic_first AS (
  SELECT
    g.subject_id,
    g.ab_id,
    c.culture_time,
    c.specimen,
    c.positive_culture,
    ROW_NUMBER() OVER (
      PARTITION BY g.subject_id, g.ab_id
      ORDER BY
        c.culture_day NULLS FIRST,
        c.charttime NULLS LAST,
        c.positive_culture DESC,
        c.micro_specimen_id
    ) AS nth
  FROM given AS g
  JOIN cultures AS c
    ON c.subject_id = g.subject_id
    AND (
      (g.antibiotic_time < c.charttime AND g.antibiotic_time >= c.charttime - INTERVAL '24' HOUR)
      OR (
        c.charttime IS NULL
        AND g.antibiotic_day <= c.culture_day
        AND g.antibiotic_day >= c.culture_day - INTERVAL '1' DAY
      )
    )
)
SELECT
  g.subject_id,
  g.stay_id,
  g.hadm_id,
  g.ab_id,
  g.antibiotic,
  g.antibiotic_time,
  CASE WHEN COALESCE(b.specimen, a.specimen) IS NULL THEN 0 ELSE 1 END AS suspected_infection,
  CASE
    WHEN COALESCE(b.specimen, a.specimen) IS NOT NULL THEN COALESCE(b.culture_time, g.antibiotic_time)
  END AS suspected_infection_time,
  COALESCE(b.culture_time, a.culture_time) AS culture_time,
  COALESCE(b.specimen, a.specimen) AS specimen,
  COALESCE(b.positive_culture, a.positive_culture) AS positive_culture
FROM given AS g
LEFT JOIN culture_first AS b ON b.subject_id = g.subject_id AND b.ab_id = g.ab_id AND b.nth = 1
LEFT JOIN antibiotic_first AS a ON a.subject_id = g.subject_id AND a.ab_id = g.ab_id AND a.nth = 1
