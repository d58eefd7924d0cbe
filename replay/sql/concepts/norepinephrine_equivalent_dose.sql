-- Dose of all vasopressors running together as norepinephrine, mcg/kg/min (Goradia et al. 2021): norepinephrine
-- + epinephrine + phenylephrine / 10 + dopamine / 100 + vasopressin in units/min * 2.5.
SELECT
  stay_id,
  starttime,
  endtime,
  ROUND(
    CAST(
      COALESCE(norepinephrine, 0)
      + COALESCE(epinephrine, 0)
      + COALESCE(phenylephrine / 10, 0)
      + COALESCE(dopamine / 100, 0)
      + COALESCE(vasopressin * 2.5 / 60, 0) AS DECIMAL(38, 9)
    ),
    4
  ) AS norepinephrine_equivalent_dose
FROM vasoactive_agent
WHERE COALESCE(norepinephrine, epinephrine, phenylephrine, dopamine, vasopressin) IS NOT NULL
