-- Clicks that directly followed another click of the same user, in the user's sequence as known when they arrived.
-- Both must have a known time. A click that comes to be known later and lies between the two does not undo the pair.
with late_users as (
    select distinct user_code from runs where not is_last
),
arrived as (
    select
        c.*,
        max(c.place) over (partition by c.user_code order by c.arrival rows between unbounded preceding and 1 preceding) as newest_place
    from clicks c
    join late_users u on u.user_code = c.user_code
),
-- The previous click is the nearest older one among those that arrived earlier.
pairs as (
    select user_code, item_code, timestamp, known_at, newest_place as previous_place
    from arrived
    where time_known and place > newest_place
    union all
    select b.user_code, b.item_code, b.timestamp, b.known_at, max(a.place) as previous_place
    from arrived b
    join clicks a on a.user_code = b.user_code and a.arrival < b.arrival and a.place < b.place
    where b.time_known and b.place < b.newest_place
    group by b.user_code, b.item_code, b.timestamp, b.known_at, b.place
)
select c.previous_item, c.item_code, c.timestamp, c.known_at
from clicks c
left join late_users u on u.user_code = c.user_code
where c.time_known and c.previous_time_known and u.user_code is null
union all
select a.item_code, p.item_code, p.timestamp, p.known_at
from pairs p
join clicks a on a.user_code = p.user_code and a.place = p.previous_place
where a.time_known
