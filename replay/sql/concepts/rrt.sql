-- Renal replacement: chartings that only a patient on dialysis has, and starts of dialysis fluids (227525, 227536)
-- and procedures. Where a charting falls into a procedure, the procedure says whether it runs and which kind it is.
WITH charted AS (
  SELECT
    stay_id,
    charttime,
    1 AS dialysis_present,
    CASE
      WHEN itemid = 225965 AND value = 'In use' THEN 1
      WHEN
        itemid IN (
          226499, 224154, 225183, 227438, 224191, 225806, 225807, 228004, 228005, 228006, 224144, 224145, 224153,
          226457
        )
        THEN 1
      ELSE 0
    END AS dialysis_active,
    CASE
      WHEN itemid = 227290 THEN value
      WHEN
        itemid IN (
          225810, 225806, 225807, 227639, 225959, 225951, 225952, 225961, 225953, 225963, 225965, 227638, 227640
        )
        THEN 'Peritoneal'
      WHEN itemid = 226499 THEN 'IHD'
    END AS dialysis_type
  FROM chartevents
  WHERE
    value IS NOT NULL
    AND itemid IN (
      226118, 227357, 225725, 226499, 224154, 225810, 227639, 225183, 227438, 224191, 225806, 225807, 228004, 228005,
      228006, 224144, 224145, 224149, 224150, 224151, 224152, 224153, 224404, 224406, 226457, 225959, 224135, 224139,
      224146, 225323, 225740, 225776, 225951, 225952, 225953, 225954, 225956, 225958, 225961, 225963, 225965, 225976,
      225977, 227124, 227290, 227638, 227640, 227753
    )
), running AS (
  SELECT stay_id, starttime, endtime, 1 AS dialysis_present, 1 AS dialysis_active, 'CRRT' AS dialysis_type
  FROM inputevents
  WHERE itemid IN (227536, 227525) AND amount > 0
  UNION DISTINCT
  SELECT
    stay_id,
    starttime,
    endtime,
    1 AS dialysis_present,
    CASE WHEN itemid IN (224270, 225436) THEN 0 ELSE 1 END AS dialysis_active,
    CASE itemid
      WHEN 225441 THEN 'IHD'
      WHEN 225802 THEN 'CRRT'
      WHEN 225803 THEN 'CVVHD'
      WHEN 225805 THEN 'Peritoneal'
      WHEN 225809 THEN 'CVVHDF'
      WHEN 225955 THEN 'SCUF'
    END AS dialysis_type
  FROM procedureevents
  WHERE
    itemid IN (225441, 225802, 225803, 225805, 224270, 225809, 225955, 225436) AND value IS NOT NULL
), moments AS (
  SELECT stay_id, charttime, dialysis_present, dialysis_active, dialysis_type FROM charted
  UNION DISTINCT
  SELECT stay_id, starttime AS charttime, dialysis_present, dialysis_active, dialysis_type FROM running
)
SELECT
  m.stay_id,
  m.charttime,
  COALESCE(r.dialysis_present, m.dialysis_present) AS dialysis_present,
  COALESCE(r.dialysis_active, m.dialysis_active) AS dialysis_active,
  COALESCE(r.dialysis_type, m.dialysis_type) AS dialysis_type
FROM moments AS m
LEFT JOIN running AS r ON r.stay_id = m.stay_id AND m.charttime >= r.starttime AND m.charttime <= r.endtime
