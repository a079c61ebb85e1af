-- The click pool: every run of every user, one after the other.
-- 1. The last run holds all clicks of the user in order of time.
select
    r.start + c.place - 1 as position, c.user_code, c.item_code, c.timestamp, c.time_known, c.known_at ${of_click}, true as canonical
from clicks c
join runs r on r.user_code = c.user_code and r.is_last
union all
-- 2. The clicks that were appended to an earlier run.
select
    r.start + r.copied + c.arrival - r.known_before - 1, c.user_code, c.item_code, c.timestamp, c.time_known, c.known_at ${of_click}, false
from clicks c
join arrivals a on a.user_code = c.user_code and a.known_at = c.known_at
join runs r on r.user_code = a.user_code and r.run = a.run
where not r.is_last and c.arrival > r.known_before
union all
-- 3. The copies at the start of an earlier run. replaced_at is the number of known clicks from which on at least
--    ${max_length} newer ones are known; it keeps the ranking small for users with many late clicks.
select
    start + copied - age, user_code, item_code, timestamp, time_known, known_at ${columns}, false
from (
    select
        r.start, r.copied, c.*, row_number() over (partition by r.user_code, r.run order by c.place desc) as age
    from runs r
    join (
        select
            late.*,
            case when count(*) over next_ones = ${max_length} then max(arrival) over next_ones end as replaced_at
        from (
            select c.* from clicks c
            join (select distinct user_code from runs where not is_last) u on u.user_code = c.user_code
        ) late
        window next_ones as (partition by user_code order by place rows between 1 following and ${max_length} following)
    ) c on c.user_code = r.user_code
    where not r.is_last and r.run > 0 and c.arrival <= r.known_before and (c.replaced_at is null or c.replaced_at > r.known_before)
) ranked
where age <= copied
