-- When each arterial blood specimen was known to be one: its type is a laboratory row of its own (52033).
select specimen_id, min(known_at(charttime, storetime)) as known_time
from labevents
where itemid = 52033 and value = 'ART.'
group by specimen_id
