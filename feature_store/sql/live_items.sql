-- Items that anyone clicked in the window before a moment.
select distinct i.item_code, i.item_id
from clicks c
join items i on i.item_code = c.item_code
where c.time_known and c.known_at < ${moment} and c.timestamp >= ${moment} - ${window}
