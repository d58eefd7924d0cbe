-- Sepsis-3 (Singer 2016), one row an ICU stay: a suspected infection whose antibiotic was given in the stay,
-- and a SOFA score of 2 or more (a healthy baseline is assumed) between 48 h before and 24 h after it. Of
-- several the earliest suspicion counts, and of its hours the first.
WITH candidates AS (
  SELECT
    i.subject_id,
    i.stay_id,
    i.antibiotic_time,
    i.culture_time,
    i.suspected_infection_time,
    s.endtime AS sofa_time,
    s.sofa_24hours AS sofa_score,
    s.respiration_24hours AS respiration,
    s.coagulation_24hours AS coagulation,
    s.liver_24hours AS liver,
    s.cardiovascular_24hours AS cardiovascular,
    s.cns_24hours AS cns,
    s.renal_24hours AS renal,
    i.suspected_infection = 1 AS sepsis3,
    ROW_NUMBER() OVER (
      PARTITION BY i.stay_id
      ORDER BY
        i.suspected_infection_time NULLS FIRST,
        i.antibiotic_time NULLS FIRST,
        i.culture_time NULLS FIRST,
        s.endtime NULLS FIRST
    ) AS nth
  FROM suspicion_of_infection AS i
  JOIN sofa AS s
    ON s.stay_id = i.stay_id
    AND s.sofa_24hours >= 2
    AND s.endtime >= i.suspected_infection_time - INTERVAL '48' HOUR
    AND s.endtime <= i.suspected_infection_time + INTERVAL '24' HOUR
)
SELECT
  subject_id,
  stay_id,
  antibiotic_time,
  culture_time,
  suspected_infection_time,
  sofa_time,
  sofa_score,
  respiration,
  coagulation,
  liver,
  cardiovascular,
  cns,
  renal,
  sepsis3
FROM candidates
WHERE nth = 1
