-- Episodes of one kind of respiratory support. Each charting of a ventilator mode (223849, Hamilton 229314) or
-- an oxygen device (226732) gives a status, the strongest first: tracheostomy, invasive, non-invasive, high-flow
-- cannula, supplemental oxygen, none. An episode ends when the status changes or after a gap of 14 h, and lasts
-- until the next charting. A device counts only where an oxygen flow was charted at the same time, and of
-- several devices the one filed last, as in the official concept.
WITH modes AS (
  SELECT
    subject_id,
    charttime,
    MAX(stay_id) AS stay_id,
    MAX(CASE WHEN itemid = 223849 THEN value END) AS ventilator_mode,
    MAX(CASE WHEN itemid = 229314 THEN value END) AS hamilton_mode
  FROM chartevents
  WHERE itemid IN (223849, 229314) AND value IS NOT NULL AND stay_id IS NOT NULL
  GROUP BY subject_id, charttime
), flow_times AS (
  SELECT
    subject_id,
    charttime,
    MAX(stay_id) AS stay_id
  FROM chartevents
  WHERE itemid IN (223834, 227582, 227287) AND value IS NOT NULL
  GROUP BY subject_id, charttime
), devices AS (
  SELECT
    subject_id,
    charttime,
    TRIM(value) AS device,
    ROW_NUMBER() OVER (
      PARTITION BY subject_id, charttime ORDER BY storetime DESC NULLS LAST, value DESC NULLS LAST
    ) AS nth
  FROM chartevents
  WHERE itemid = 226732
), charted AS (
  SELECT
    COALESCE(m.stay_id, f.stay_id) AS stay_id,
    COALESCE(m.charttime, f.charttime) AS charttime,
    d.device,
    m.ventilator_mode,
    m.hamilton_mode
  FROM modes AS m
  FULL JOIN flow_times AS f ON f.stay_id = m.stay_id AND f.charttime = m.charttime
  LEFT JOIN devices AS d ON d.subject_id = f.subject_id AND d.charttime = f.charttime AND d.nth = 1
), judged AS (
  SELECT
    stay_id,
    charttime,
    CASE
      WHEN device IN ('Tracheostomy tube', 'Trach mask') THEN 'Tracheostomy'
      WHEN
        device = 'Endotracheal tube'
        OR ventilator_mode IN (
          '(S) CMV', 'APRV', 'APRV/Biphasic+ApnPress', 'APRV/Biphasic+ApnVol', 'APV (cmv)', 'Ambient',
          'Apnea Ventilation', 'CMV', 'CMV/ASSIST', 'CMV/ASSIST/AutoFlow', 'CMV/AutoFlow', 'CPAP/PPS',
          'CPAP/PSV', 'CPAP/PSV+Apn TCPL', 'CPAP/PSV+ApnPres', 'CPAP/PSV+ApnVol', 'MMV', 'MMV/AutoFlow',
          'MMV/PSV', 'MMV/PSV/AutoFlow', 'P-CMV', 'PCV+', 'PCV+/PSV', 'PCV+Assist', 'PRES/AC', 'PRVC/AC',
          'PRVC/SIMV', 'PSV/SBT', 'SIMV', 'SIMV/AutoFlow', 'SIMV/PRES', 'SIMV/PSV', 'SIMV/PSV/AutoFlow',
          'SIMV/VOL', 'SYNCHRON MASTER', 'SYNCHRON SLAVE', 'VOL/AC'
        )
        OR hamilton_mode IN (
          '(S) CMV', 'APRV', 'APV (cmv)', 'APV (simv)', 'ASV', 'Ambient', 'P-CMV', 'P-SIMV', 'SIMV', 'VS'
        )
        THEN 'InvasiveVent'
      WHEN device IN ('Bipap mask', 'CPAP mask') OR hamilton_mode IN ('DuoPaP', 'NIV', 'NIV-ST')
        THEN 'NonInvasiveVent'
      WHEN device = 'High flow nasal cannula' THEN 'HFNC'
      WHEN
        device IN (
          'Aerosol-cool', 'Face tent', 'High flow neb', 'Medium conc mask', 'Nasal cannula', 'Non-rebreather',
          'Oxymizer', 'Ultrasonic neb', 'Vapomist', 'Venti mask'
        )
        THEN 'SupplementalOxygen'
      WHEN device = 'None' THEN 'None'
    END AS ventilation_status
  FROM charted
), neighbors AS (
  SELECT
    stay_id,
    charttime,
    ventilation_status,
    DATE_TRUNC('hour', charttime) AS charted_hour,
    DATE_TRUNC(
      'hour', LAG(charttime) OVER (PARTITION BY stay_id, ventilation_status ORDER BY charttime)
    ) AS same_status_hour,
    LAG(ventilation_status) OVER (PARTITION BY stay_id ORDER BY charttime) AS last_status,
    LEAD(charttime) OVER (PARTITION BY stay_id ORDER BY charttime) AS next_charttime
  FROM judged
  WHERE ventilation_status IS NOT NULL
), numbered AS (
  SELECT
    stay_id,
    charttime,
    ventilation_status,
    CASE
      WHEN DATE_TRUNC('hour', next_charttime) < charted_hour + INTERVAL '14' HOUR THEN next_charttime
      ELSE charttime
    END AS lasts_until,
    SUM(
      CASE
        WHEN last_status = ventilation_status AND charted_hour < same_status_hour + INTERVAL '14' HOUR THEN 0
        ELSE 1
      END
    ) OVER (PARTITION BY stay_id ORDER BY charttime NULLS FIRST) AS episode
  FROM neighbors
)
SELECT
  stay_id,
  MIN(charttime) AS starttime,
  MAX(lasts_until) AS endtime,
  MAX(ventilation_status) AS ventilation_status
FROM numbered
GROUP BY stay_id, episode
HAVING MIN(charttime) <> MAX(charttime)
