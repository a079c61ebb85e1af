-- A log of clicks only: each click at a known time is a request, numbered in order of (time, user, item).
-- tie tells requests of the same microsecond apart.
select
    request,
    cast(request - first_of_moment as bigint) as tie,
    user_code,
    item_code,
    timestamp
    ${columns}
from (
    select
        cast(row_number() over (order by timestamp, user_code, item_code, known_at ${order}) - 1 as bigint) as request,
        rank() over (order by timestamp) - 1 as first_of_moment,
        *
    from log
    where clicked = 1 and time_known
) numbered
