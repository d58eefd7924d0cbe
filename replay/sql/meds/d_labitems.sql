-- The items that occur; an extract has no labels under MIMIC-IV's names.
select distinct try_cast(regexp_extract(code, '^LAB//(?:RESULT//)?(5[0-9]{4})//', 1) as integer) as itemid, null as label, null as fluid, null as category
from meds_events
where regexp_matches(code, '^LAB//(?:RESULT//)?(5[0-9]{4})//')
