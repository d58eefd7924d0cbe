-- The items that occur; an extract has no labels under MIMIC-IV's names.
select distinct try_cast(regexp_extract(code, '^(?:LAB|SUBJECT_FLUID_OUTPUT|INFUSION_START|PROCEDURE//START)//(2[0-9]{5})(?://|$)', 1) as integer) as itemid, null as label, null as linksto, null as category, null as unitname
from meds_events
where regexp_matches(code, '^(?:LAB|SUBJECT_FLUID_OUTPUT|INFUSION_START|PROCEDURE//START)//(2[0-9]{5})(?://|$)')
