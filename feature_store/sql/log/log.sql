-- The events with codes in place of ids. known_at is the first moment after which an event may be seen.
select
    u.user_code,
    i.item_code,
    e.timestamp,
    e.known_at,
    e.clicked,
    e.time_known,
    e.request_id
    ${columns}
from ${events} e
join users u on u.user_id = e.user_id
join items i on i.item_id = e.item_id
