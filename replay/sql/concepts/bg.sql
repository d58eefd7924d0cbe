-- Blood gases, one row a specimen that has a pO2. `specimen` tells arterial (ART.) from venous and mixed.
-- Inspired oxygen in percent: of the gas itself (50816), else the last charted one (223835) of the 4 h before;
-- fractions are multiplied by 100, and numbers between 1 and 20 are neither and are dropped.
-- `known_time` is when the last part of the row was filed.
WITH gas AS (
  SELECT
    specimen_id,
    MAX(subject_id) AS subject_id,
    MAX(hadm_id) AS hadm_id,
    MAX(charttime) AS charttime,
    MAX(COALESCE(storetime, charttime)) AS filed,
    MAX(CASE WHEN itemid = 52033 THEN value END) AS specimen,
    MAX(CASE WHEN itemid = 50817 AND valuenum <= 100 THEN valuenum END) AS so2,
    MAX(CASE WHEN itemid = 50821 THEN valuenum END) AS po2,
    MAX(CASE WHEN itemid = 50818 THEN valuenum END) AS pco2,
    MAX(
      CASE
        WHEN itemid = 50816 AND valuenum > 20 AND valuenum <= 100 THEN valuenum
        WHEN itemid = 50816 AND valuenum > 0.2 AND valuenum <= 1 THEN valuenum * 100
      END
    ) AS fio2,
    MAX(CASE WHEN itemid = 50801 THEN valuenum END) AS aado2,
    MAX(CASE WHEN itemid = 50820 THEN valuenum END) AS ph,
    MAX(CASE WHEN itemid = 50802 THEN valuenum END) AS baseexcess,
    MAX(CASE WHEN itemid = 50803 THEN valuenum END) AS bicarbonate,
    MAX(CASE WHEN itemid = 50804 THEN valuenum END) AS totalco2,
    MAX(CASE WHEN itemid = 50810 AND valuenum <= 100 THEN valuenum END) AS hematocrit,
    MAX(CASE WHEN itemid = 50811 THEN valuenum END) AS hemoglobin,
    MAX(CASE WHEN itemid = 50805 THEN valuenum END) AS carboxyhemoglobin,
    MAX(CASE WHEN itemid = 50814 THEN valuenum END) AS methemoglobin,
    MAX(CASE WHEN itemid = 50806 THEN valuenum END) AS chloride,
    MAX(CASE WHEN itemid = 50808 THEN valuenum END) AS calcium,
    MAX(CASE WHEN itemid = 50825 THEN valuenum END) AS temperature,
    MAX(CASE WHEN itemid = 50822 THEN valuenum END) AS potassium,
    MAX(CASE WHEN itemid = 50824 THEN valuenum END) AS sodium,
    MAX(CASE WHEN itemid = 50813 AND valuenum <= 10000 THEN valuenum END) AS lactate,
    MAX(CASE WHEN itemid = 50809 AND valuenum <= 10000 THEN valuenum END) AS glucose
  FROM labevents
  WHERE itemid BETWEEN 50801 AND 50825 OR itemid = 52033
  GROUP BY specimen_id
  HAVING MAX(CASE WHEN itemid = 50821 THEN valuenum END) IS NOT NULL
), inspired_oxygen AS (
  SELECT
    subject_id,
    charttime,
    MAX(COALESCE(storetime, charttime)) AS filed,
    MAX(CASE WHEN valuenum <= 1 THEN valuenum * 100 ELSE valuenum END) AS fio2_chartevents
  FROM chartevents
  WHERE
    itemid = 223835
    AND ((valuenum > CAST(0.2 AS FLOAT) AND valuenum <= 1) OR (valuenum >= 20 AND valuenum <= 100))
  GROUP BY subject_id, charttime
), latest_oxygen AS (
  SELECT
    g.specimen_id,
    o.filed,
    o.fio2_chartevents,
    ROW_NUMBER() OVER (PARTITION BY g.specimen_id ORDER BY o.charttime DESC) AS nth_last
  FROM gas AS g
  JOIN inspired_oxygen AS o
    ON o.subject_id = g.subject_id
    AND o.charttime >= g.charttime - INTERVAL '4' HOUR
    AND o.charttime <= g.charttime
)
SELECT
  g.subject_id,
  g.hadm_id,
  g.charttime,
  g.specimen,
  g.so2,
  g.po2,
  g.pco2,
  o.fio2_chartevents,
  g.fio2,
  g.aado2,
  -- alveolar gas equation at sea level: 760 mmHg less 47 mmHg water vapour, respiratory quotient 0.8
  ROUND(
    CAST(COALESCE(g.fio2, o.fio2_chartevents) / 100 * (760 - 47) - g.pco2 / 0.8 - g.po2 AS DECIMAL(38, 9)), 4
  ) AS aado2_calc,
  100 * g.po2 / COALESCE(g.fio2, o.fio2_chartevents) AS pao2fio2ratio,
  g.ph,
  g.baseexcess,
  g.bicarbonate,
  g.totalco2,
  g.hematocrit,
  g.hemoglobin,
  g.carboxyhemoglobin,
  g.methemoglobin,
  g.chloride,
  g.calcium,
  g.temperature,
  g.potassium,
  g.sodium,
  g.lactate,
  g.glucose,
  GREATEST(g.filed, COALESCE(o.filed, g.filed)) AS known_time
FROM gas AS g
LEFT JOIN latest_oxygen AS o ON o.specimen_id = g.specimen_id AND o.nth_last = 1
