-- The events with each pair as one row: clicked, and known when its click was, with the context of the row that was known first, which is
-- the impression unless that came late: what is known of it later was not known to the requests before.
-- shown_at is when either of them became known: from then on the row counts as an impression.
select e.user_id, e.item_id, e.timestamp, e.known_at, e.known_at as shown_at, e.clicked, e.time_known, e.request_id ${columns}
from events e
left join pairs p
    on p.user_id = e.user_id and p.item_id = e.item_id and p.timestamp = e.timestamp and p.request_id is not distinct from e.request_id
where p.user_id is null or not e.time_known or e.clicked is null
union all
select
    coalesce(e.user_id, s.user_id),
    coalesce(e.item_id, s.item_id),
    coalesce(e.timestamp, s.timestamp),
    coalesce(e.known_at, s.known_at),
    least(coalesce(e.known_at, s.known_at), coalesce(s.known_at, e.known_at)),
    coalesce(e.clicked, s.clicked),
    true,
    coalesce(e.request_id, s.request_id)
    ${paired_columns}
from (select * from pair_rows where clicked = 1) e
full outer join (select * from pair_rows where clicked = 0) s
    on s.user_id = e.user_id and s.item_id = e.item_id and s.timestamp = e.timestamp and s.request_id is not distinct from e.request_id
    and s.place = e.place
