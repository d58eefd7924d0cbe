-- Charlson comorbidities of each admission by its diagnoses (Quan 2005), and their index with the points of age. The
-- codes stand without a point; each pattern is the beginning of a code.
WITH coded AS (
  SELECT
    hadm_id,
    CASE WHEN icd_version = 9 THEN icd_code ELSE '' END AS icd9,
    CASE WHEN icd_version = 10 THEN icd_code ELSE '' END AS icd10
  FROM diagnoses_icd
), found AS (
  SELECT
    hadm_id,
    REGEXP_MATCHES(icd9, '^(410|412)') OR REGEXP_MATCHES(icd10, '^(I21|I22|I252)') AS myocardial_infarct,
    REGEXP_MATCHES(icd9, '^(428|39891|402[019]1|404[019][13]|425[4-9])')
    OR REGEXP_MATCHES(icd10, '^(I43|I50|I099|I110|I130|I132|I255|I42[05-9]|P290)') AS congestive_heart_failure,
    REGEXP_MATCHES(icd9, '^(440|441|443[1-9]|0930|4373|4471|5571|5579|V434)')
    OR REGEXP_MATCHES(icd10, '^(I70|I71|I731|I738|I739|I771|I790|I792|K551|K558|K559|Z958|Z959)')
      AS peripheral_vascular_disease,
    REGEXP_MATCHES(icd9, '^(43[0-8]|36234)')
    OR REGEXP_MATCHES(icd10, '^(G45|G46|I6[0-9]|H340)') AS cerebrovascular_disease,
    REGEXP_MATCHES(icd9, '^(290|2941|3312)') OR REGEXP_MATCHES(icd10, '^(F0[0-3]|G30|F051|G311)') AS dementia,
    REGEXP_MATCHES(icd9, '^(49[0-9]|50[0-5]|4168|4169|5064|5081|5088)')
    OR REGEXP_MATCHES(icd10, '^(J4[0-7]|J6[0-7]|I278|I279|J684|J701|J703)') AS chronic_pulmonary_disease,
    REGEXP_MATCHES(icd9, '^(725|4465|710[0-4]|714[0128])')
    OR REGEXP_MATCHES(icd10, '^(M05|M06|M32|M33|M34|M315|M351|M353|M360)') AS rheumatic_disease,
    REGEXP_MATCHES(icd9, '^53[1-4]') OR REGEXP_MATCHES(icd10, '^K2[5-8]') AS peptic_ulcer_disease,
    REGEXP_MATCHES(icd9, '^(570|571|0706|0709|573[3489]|V427|0702[23]|0703[23]|07044|07054)')
    OR REGEXP_MATCHES(icd10, '^(B18|K73|K74|K70[0-39]|K71[3457]|K76[02-489]|Z944)') AS mild_liver_disease,
    REGEXP_MATCHES(icd9, '^250[012389]') OR REGEXP_MATCHES(icd10, '^E1[0-4][01689]') AS diabetes_without_cc,
    REGEXP_MATCHES(icd9, '^250[4-7]') OR REGEXP_MATCHES(icd10, '^E1[0-4][2-57]') AS diabetes_with_cc,
    REGEXP_MATCHES(icd9, '^(342|343|3341|344[0-69])')
    OR REGEXP_MATCHES(icd10, '^(G81|G82|G041|G114|G801|G802|G83[0-49])') AS paraplegia,
    REGEXP_MATCHES(icd9, '^(582|585|586|V56|5880|V420|V451|583[0-7]|403[019]1|404[019][23])')
    OR REGEXP_MATCHES(icd10, '^(N18|N19|I120|I131|N03[2-7]|N05[2-7]|N250|Z49[0-2]|Z940|Z992)') AS renal_disease,
    REGEXP_MATCHES(icd9, '^(1[4-6][0-9]|17[0-2]|174.|17[5-9]|18|19[0-4]|195($|[0-8])|20[0-8]|2386)')
    OR REGEXP_MATCHES(
      icd10,
      '^(C[01][0-9]|C2[0-6]|C3[0-4]|C3[7-9]|C4[01]|C43|C4[5-9]|C5[0-8]|C6[0-9]|C7[0-6]|C8[1-5]|C88|C9[0-7])'
    ) AS malignant_cancer,
    REGEXP_MATCHES(icd9, '^(456[0-2]|572[2-8])')
    OR REGEXP_MATCHES(icd10, '^(I850|I859|I864|I982|K704|K711|K721|K729|K76[5-7])') AS severe_liver_disease,
    REGEXP_MATCHES(icd9, '^19[6-9]') OR REGEXP_MATCHES(icd10, '^(C7[7-9]|C80)') AS metastatic_solid_tumor,
    REGEXP_MATCHES(icd9, '^04[2-4]') OR REGEXP_MATCHES(icd10, '^(B2[0-24])') AS aids
  FROM coded
), had AS (
  SELECT
    a.subject_id,
    a.hadm_id,
    CASE
      WHEN MAX(g.age) < 50 THEN 0
      WHEN MAX(g.age) < 60 THEN 1
      WHEN MAX(g.age) < 70 THEN 2
      WHEN MAX(g.age) < 80 THEN 3
      ELSE 4
    END AS age_score,
    MAX(CASE WHEN f.myocardial_infarct THEN 1 ELSE 0 END) AS myocardial_infarct,
    MAX(CASE WHEN f.congestive_heart_failure THEN 1 ELSE 0 END) AS congestive_heart_failure,
    MAX(CASE WHEN f.peripheral_vascular_disease THEN 1 ELSE 0 END) AS peripheral_vascular_disease,
    MAX(CASE WHEN f.cerebrovascular_disease THEN 1 ELSE 0 END) AS cerebrovascular_disease,
    MAX(CASE WHEN f.dementia THEN 1 ELSE 0 END) AS dementia,
    MAX(CASE WHEN f.chronic_pulmonary_disease THEN 1 ELSE 0 END) AS chronic_pulmonary_disease,
    MAX(CASE WHEN f.rheumatic_disease THEN 1 ELSE 0 END) AS rheumatic_disease,
    MAX(CASE WHEN f.peptic_ulcer_disease THEN 1 ELSE 0 END) AS peptic_ulcer_disease,
    MAX(CASE WHEN f.mild_liver_disease THEN 1 ELSE 0 END) AS mild_liver_disease,
    MAX(CASE WHEN f.diabetes_without_cc THEN 1 ELSE 0 END) AS diabetes_without_cc,
    MAX(CASE WHEN f.diabetes_with_cc THEN 1 ELSE 0 END) AS diabetes_with_cc,
    MAX(CASE WHEN f.paraplegia THEN 1 ELSE 0 END) AS paraplegia,
    MAX(CASE WHEN f.renal_disease THEN 1 ELSE 0 END) AS renal_disease,
    MAX(CASE WHEN f.malignant_cancer THEN 1 ELSE 0 END) AS malignant_cancer,
    MAX(CASE WHEN f.severe_liver_disease THEN 1 ELSE 0 END) AS severe_liver_disease,
    MAX(CASE WHEN f.metastatic_solid_tumor THEN 1 ELSE 0 END) AS metastatic_solid_tumor,
    MAX(CASE WHEN f.aids THEN 1 ELSE 0 END) AS aids
  FROM admissions AS a
  LEFT JOIN age AS g ON g.hadm_id = a.hadm_id
  LEFT JOIN found AS f ON f.hadm_id = a.hadm_id
  GROUP BY a.subject_id, a.hadm_id
)
SELECT
  *,
  age_score
  + myocardial_infarct
  + congestive_heart_failure
  + peripheral_vascular_disease
  + cerebrovascular_disease
  + dementia
  + chronic_pulmonary_disease
  + rheumatic_disease
  + peptic_ulcer_disease
  + GREATEST(mild_liver_disease, 3 * severe_liver_disease)
  + GREATEST(diabetes_without_cc, 2 * diabetes_with_cc)
  + GREATEST(2 * malignant_cancer, 6 * metastatic_solid_tumor)
  + 2 * paraplegia
  + 2 * renal_disease
  + 6 * aids AS charlson_comorbidity_index
FROM had
