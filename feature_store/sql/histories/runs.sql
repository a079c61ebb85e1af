-- Runs: stretches of the click pool in which every history of a user is contiguous.
-- The first run of a user starts empty. A later one starts with a copy of the newest ${max_length} clicks known at its
-- start, the late one among them; clicks that arrive in order are appended. The last run of a user starts with a copy of
-- all of them, so it holds each of their clicks exactly once, in order of time: the canonical sequence.
--   known_before  clicks known when the run started (0 for the first)
--   copied        clicks that it starts with
--   start         its first position in the pool
select
    user_code,
    run,
    is_last,
    known_before,
    copied,
    cast(sum(copied + known_after - known_before) over (order by user_code, run) as bigint) - (copied + known_after - known_before) as start
from (
    select
        user_code,
        run,
        is_last,
        known_before,
        known_after,
        case when is_last then known_before else least(known_before, ${max_length}) end as copied
    from (
        select
            user_code,
            run,
            case when run = 0 then 0 else min(known) end as known_before,
            max(known) as known_after,
            run = max(run) over (partition by user_code) as is_last
        from arrivals
        group by user_code, run
    ) extents
) sizes
