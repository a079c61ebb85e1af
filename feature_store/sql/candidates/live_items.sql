-- Items that were clicked in the window before a moment, and how often.
select i.item_code, i.item_id, count(*) as clicks
from ${clicks} c
join items i on i.item_code = c.item_code
where c.time_known and c.known_at < ${moment} and c.timestamp >= ${moment} - ${window}
group by i.item_code, i.item_id
