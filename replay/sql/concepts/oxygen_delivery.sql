-- Oxygen at each charting of a flow: flow (223834, BiPAP 227582), additional flow (227287), L/min, and up to four
-- devices (226732), the one filed last first. A device counts only where a flow was charted at the same minute, as
-- in the official concept; 223834 and 227582 are one flow.
WITH flows AS (
  SELECT
    subject_id,
    stay_id,
    charttime,
    itemid = 227287 AS is_additional,
    valuenum,
    ROW_NUMBER() OVER (
      PARTITION BY subject_id, charttime, itemid = 227287 ORDER BY storetime DESC, valuenum DESC
    ) AS nth
  FROM chartevents
  WHERE itemid IN (223834, 227582, 227287) AND value IS NOT NULL
), flow_times AS (
  SELECT
    subject_id,
    charttime,
    MAX(stay_id) AS stay_id,
    MAX(CASE WHEN NOT is_additional THEN valuenum END) AS o2_flow,
    MAX(CASE WHEN is_additional THEN valuenum END) AS o2_flow_additional
  FROM flows
  WHERE nth = 1
  GROUP BY subject_id, charttime
), devices AS (
  SELECT
    subject_id,
    charttime,
    value AS device,
    ROW_NUMBER() OVER (PARTITION BY subject_id, charttime ORDER BY storetime DESC, value DESC) AS slot
  FROM chartevents
  WHERE itemid = 226732
)
SELECT
  f.subject_id,
  f.stay_id,
  f.charttime,
  f.o2_flow,
  f.o2_flow_additional,
  MAX(CASE WHEN d.slot = 1 THEN d.device END) AS o2_delivery_device_1,
  MAX(CASE WHEN d.slot = 2 THEN d.device END) AS o2_delivery_device_2,
  MAX(CASE WHEN d.slot = 3 THEN d.device END) AS o2_delivery_device_3,
  MAX(CASE WHEN d.slot = 4 THEN d.device END) AS o2_delivery_device_4
FROM flow_times AS f
LEFT JOIN devices AS d ON d.subject_id = f.subject_id AND d.charttime = f.charttime
GROUP BY f.subject_id, f.stay_id, f.charttime, f.o2_flow, f.o2_flow_additional
