-- The history of a user after each moment at which clicks of theirs became known: looked up by the last moment before a request.
-- In order of the moment, as in statistics/counts.sql.
select
    a.user_code,
    a.known_at as moment,
    r.start as run_start,
    r.start + r.copied + a.known - r.known_before as history_end,
    a.known as clicks,
    a.last_time,
    a.newest_item as last_item
from arrivals a
join runs r on r.user_code = a.user_code and r.run = a.run
order by moment
