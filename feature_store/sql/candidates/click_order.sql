-- The clicks of all users in the order in which they became known: the pool that candidates are drawn from by position.
select
    cast(row_number() over (order by known_at, timestamp, user_code, item_code) - 1 as bigint) as position,
    item_code,
    timestamp,
    known_at
from ${clicks}
where time_known
