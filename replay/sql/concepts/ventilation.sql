-- Episodes of one kind of respiratory support. Each charting of a ventilator mode (223849, Hamilton 229314) or
-- an oxygen device (226732) gives a status, the strongest first: tracheostomy, invasive, non-invasive, high-flow
-- cannula, supplemental oxygen, none. An episode ends when the status changes or after a gap of 14 h, and lasts
-- until the next charting. A device counts only where an oxygen flow was charted at the same time; of several
-- devices the one filed last counts, but a BiPAP or CPAP mask in any place does.
WITH times AS (
  SELECT stay_id, charttime FROM ventilator_setting
  UNION DISTINCT
  SELECT stay_id, charttime FROM oxygen_delivery
), charted AS (
  SELECT
    t.stay_id,
    t.charttime,
    TRIM(o.o2_delivery_device_1) AS device,
    TRIM(o.o2_delivery_device_2) AS device_2,
    TRIM(o.o2_delivery_device_3) AS device_3,
    TRIM(o.o2_delivery_device_4) AS device_4,
    v.ventilator_mode,
    v.ventilator_mode_hamilton AS hamilton_mode
  FROM times AS t
  LEFT JOIN ventilator_setting AS v ON v.stay_id = t.stay_id AND v.charttime = t.charttime
  LEFT JOIN oxygen_delivery AS o ON o.stay_id = t.stay_id AND o.charttime = t.charttime
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
      WHEN
        'Bipap mask' IN (device, device_2, device_3, device_4)
        OR 'CPAP mask' IN (device, device_2, device_3, device_4)
        OR hamilton_mode IN ('DuoPaP', 'NIV', 'NIV-ST')
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
