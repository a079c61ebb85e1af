-- The distinct items among the newest ${history} clicks of each history of the chunk, with the place of the newest click on each: 1 for
-- the newest of all. Histories that are not empty differ in where they end.
select q.history_end, p.item_code, min(n.place) as place
from (select distinct history_start, history_end from seen_requests where history_end > history_start) q
join (select cast(place as int) as place from range(1, ${history} + 1) as counted(place)) n on n.place <= q.history_end - q.history_start
join positions p on p.position = q.history_end - n.place
group by q.history_end, p.item_code
