-- Which body weight holds when. The first admission weight (226512) holds from 2 h before ICU admission, every
-- other weight (226512, daily 224639) from its charting; each until the next, the last until 2 h after
-- discharge. A stay whose earliest weight is charted later has that one carried back to 2 h before admission.
WITH charted AS (
  SELECT
    c.stay_id,
    s.intime,
    s.outtime,
    c.charttime,
    CASE WHEN c.itemid = 226512 THEN 'admit' ELSE 'daily' END AS weight_type,
    ROUND(CAST(c.valuenum AS DECIMAL(38, 9)), 3) AS weight,
    ROW_NUMBER() OVER (PARTITION BY c.stay_id, c.itemid ORDER BY c.charttime, c.valuenum) AS nth
  FROM chartevents AS c
  JOIN icustays AS s ON s.stay_id = c.stay_id
  WHERE c.itemid IN (226512, 224639) AND c.valuenum > 0 AND c.valuenum < 1500
), valid_from AS (
  SELECT
    *,
    CASE WHEN weight_type = 'admit' AND nth = 1 THEN intime - INTERVAL '2' HOUR ELSE charttime END AS starttime
  FROM charted
), lasting AS (
  SELECT
    *,
    LEAD(starttime) OVER (PARTITION BY stay_id ORDER BY starttime, weight_type, nth) AS next_start,
    ROW_NUMBER() OVER (PARTITION BY stay_id ORDER BY starttime, weight_type, nth) AS place
  FROM valid_from
)
SELECT
  stay_id,
  starttime,
  COALESCE(next_start, outtime + INTERVAL '2' HOUR) AS endtime,
  weight,
  weight_type
FROM lasting
UNION ALL
SELECT
  stay_id,
  intime - INTERVAL '2' HOUR AS starttime,
  starttime AS endtime,
  weight,
  weight_type
FROM lasting
WHERE place = 1 AND starttime > intime
