-- The oldest click time known of an item, as periods (moment, until]. More than one period only where a click arrived
-- that is older than all that were known.
with known_first as (
    select c.item_code, f.known_at, min(c.timestamp) as first_click
    from clicks c
    join (select item_code, min(known_at) as known_at from clicks where time_known group by item_code) f
        on f.item_code = c.item_code and f.known_at = c.known_at
    where c.time_known
    group by c.item_code, f.known_at
),
older as (
    select c.item_code, c.known_at, min(c.timestamp) as first_click
    from clicks c
    join known_first f on f.item_code = c.item_code and c.timestamp < f.first_click
    where c.time_known
    group by c.item_code, c.known_at
),
oldest as (
    select
        item_code,
        known_at,
        first_click,
        min(first_click) over (partition by item_code order by known_at rows between unbounded preceding and 1 preceding) as before
    from (select * from known_first union all select * from older) candidates
)
select
    item_code,
    known_at as moment,
    first_click,
    lead(known_at) over (partition by item_code order by known_at) as until
from oldest
where before is null or first_click < before
