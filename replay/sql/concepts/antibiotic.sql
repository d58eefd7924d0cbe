-- Prescriptions of systemic antibiotics. A drug counts by a part of its name and its route: not into eyes or
-- ears, not on the skin, no cream, gel or ointment, no desensitization. Oral and nasal routes count; a missing
-- route does not. `stay_id` is the ICU stay in which the prescription starts, if any.
WITH name_parts AS (
  SELECT part
  FROM (
    VALUES
      ('adoxa'), ('ala-tet'), ('alodox'), ('amikacin'), ('amikin'), ('amoxicill'), ('amphotericin'), ('ampicillin'),
      ('ancef'), ('anidulafungin'), ('augmentin'), ('avelox'), ('avidoxy'), ('axetil'), ('azactam'),
      ('azithromycin'), ('aztreonam'), ('bactocill'), ('bactrim'), ('bactroban'), ('bethkis'), ('biaxin'),
      ('bicillin l-a'), ('cayston'), ('cedax'), ('cefaclor'), ('cefadroxil'), ('cefazolin'), ('cefdinir'),
      ('cefditoren'), ('cefepime'), ('cefotan'), ('cefotaxime'), ('cefotetan'), ('cefoxitin'), ('cefpirome'),
      ('cefpodoxime'), ('cefprozil'), ('ceftaroline'), ('ceftazidime'), ('ceftibuten'), ('ceftin'),
      ('ceftriaxone'), ('cefuroxime'), ('cephalexin'), ('cephalothin'), ('cephapririn'), ('chloramphenicol'),
      ('cipro'), ('claforan'), ('clarithromycin'), ('clavulanate'), ('cleocin'), ('clindamycin'), ('cubicin'),
      ('dicloxacillin'), ('dirithromycin'), ('doryx'), ('doxycy'), ('duricef'), ('dynacin'), ('ery-tab'), ('eryc'),
      ('eryped'), ('erythrocin'), ('erythromycin'), ('factive'), ('flagyl'), ('fortaz'), ('furadantin'),
      ('garamycin'), ('gentamicin'), ('kanamycin'), ('keflex'), ('kefzol'), ('ketek'), ('levaquin'),
      ('levofloxacin'), ('lincocin'), ('linezolid'), ('macrobid'), ('macrodantin'), ('maxipime'), ('mefoxin'),
      ('meropenem'), ('methicillin'), ('metronidazole'), ('minocin'), ('minocycline'), ('monodox'), ('monurol'),
      ('morgidox'), ('moxatag'), ('moxifloxacin'), ('mupirocin'), ('myrac'), ('nafcillin'), ('neomycin'),
      ('nicazel doxy 30'), ('nitrofurantoin'), ('norfloxacin'), ('noroxin'), ('ocudox'), ('ofloxacin'),
      ('omnicef'), ('oracea'), ('oraxyl'), ('oxacillin'), ('panixine'), ('pc pen vk'), ('pce dispertab'),
      ('pediazole'), ('penicillin'), ('periostat'), ('pfizerpen'), ('piperacillin'), ('primsol'), ('proquin'),
      ('raniclor'), ('rifadin'), ('rifampin'), ('rocephin'), ('septra'), ('smz-tmp'), ('solodyn'),
      ('spectracef'), ('streptomycin'), ('sulfadiazine'), ('sulfamethoxazole'), ('sulfatrim'), ('sulfisoxazole'),
      ('suprax'), ('synercid'), ('tazicef'), ('tazobactam'), ('tetracycline'), ('timentin'), ('tobramycin'),
      ('trimethoprim'), ('unasyn'), ('vancocin'), ('vancomycin'), ('vantin'), ('vibativ'), ('vibra-tabs'),
      ('vibramycin'), ('zinacef'), ('zithromax'), ('zosyn'), ('zyvox')
  ) AS names(part)
), formulations AS (
  SELECT DISTINCT
    drug,
    route
  FROM prescriptions
  WHERE
    drug_type <> 'BASE'
    AND route NOT IN ('OU', 'OS', 'OD', 'AU', 'AS', 'AD', 'TP')
    AND LOWER(route) NOT LIKE '%ear%'
    AND LOWER(route) NOT LIKE '%eye%'
    AND LOWER(drug) NOT LIKE '%cream%'
    AND LOWER(drug) NOT LIKE '%desensitization%'
    AND LOWER(drug) NOT LIKE '%ophth oint%'
    AND LOWER(drug) NOT LIKE '%gel%'
), antibiotics AS (
  SELECT DISTINCT
    f.drug,
    f.route
  FROM formulations AS f
  JOIN name_parts AS n ON LOWER(f.drug) LIKE CONCAT('%', n.part, '%')
)
SELECT
  p.subject_id,
  p.hadm_id,
  s.stay_id,
  p.drug AS antibiotic,
  p.route,
  p.starttime,
  p.stoptime
FROM prescriptions AS p
JOIN antibiotics AS a ON a.drug = p.drug AND a.route = p.route
LEFT JOIN icustays AS s ON s.hadm_id = p.hadm_id AND p.starttime >= s.intime AND p.starttime < s.outtime
