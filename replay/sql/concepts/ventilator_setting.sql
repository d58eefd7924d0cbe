-- Ventilator settings at each charting. Inspired oxygen in percent: fractions are multiplied by 100, numbers
-- between 1 and 20 are neither; PEEP (set 220339, total 224700) outside 0 to 100 is dropped.
SELECT
  subject_id,
  MAX(stay_id) AS stay_id,
  charttime,
  MAX(CASE WHEN itemid = 224688 THEN valuenum END) AS respiratory_rate_set,
  MAX(CASE WHEN itemid = 224690 THEN valuenum END) AS respiratory_rate_total,
  MAX(CASE WHEN itemid = 224689 THEN valuenum END) AS respiratory_rate_spontaneous,
  MAX(CASE WHEN itemid = 224687 THEN valuenum END) AS minute_volume,
  MAX(CASE WHEN itemid = 224684 THEN valuenum END) AS tidal_volume_set,
  MAX(CASE WHEN itemid = 224685 THEN valuenum END) AS tidal_volume_observed,
  MAX(CASE WHEN itemid = 224686 THEN valuenum END) AS tidal_volume_spontaneous,
  MAX(CASE WHEN itemid = 224696 THEN valuenum END) AS plateau_pressure,
  MAX(CASE WHEN itemid IN (220339, 224700) AND valuenum >= 0 AND valuenum <= 100 THEN valuenum END) AS peep,
  MAX(
    CASE
      WHEN itemid = 223835 AND valuenum >= 0.2 AND valuenum <= 1 THEN valuenum * 100
      WHEN itemid = 223835 AND valuenum >= 20 AND valuenum <= 100 THEN valuenum
    END
  ) AS fio2,
  MAX(CASE WHEN itemid = 224691 THEN valuenum END) AS flow_rate,
  MAX(CASE WHEN itemid = 223849 THEN value END) AS ventilator_mode,
  MAX(CASE WHEN itemid = 229314 THEN value END) AS ventilator_mode_hamilton,
  MAX(CASE WHEN itemid = 223848 THEN value END) AS ventilator_type
FROM chartevents
WHERE
  value IS NOT NULL
  AND stay_id IS NOT NULL
  AND itemid IN (
    224688, 224689, 224690, 224687, 224685, 224684, 224686, 224696, 220339, 224700, 223835, 223849, 229314, 223848,
    224691
  )
GROUP BY subject_id, charttime
