-- The rows of pairs; the first impression of a pair and its first click have the same place, and so on, by when they became known.
select
    e.*,
    row_number() over (
        partition by e.user_id, e.item_id, e.timestamp, e.request_id, e.clicked order by e.known_at ${order}
    ) as place
from events e
join pairs p
    on p.user_id = e.user_id and p.item_id = e.item_id and p.timestamp = e.timestamp and p.request_id is not distinct from e.request_id
where e.time_known and e.clicked is not null
