-- Every click with its place among the clicks of its user.
--   place    1, 2, ... in order of time, ties by item: the order of a history
--   arrival  1, 2, ... in the order in which the clicks became known; equal to place unless one arrived late
-- Clicks that agree in all columns are interchangeable, so both orders are deterministic.
select
    *,
    row_number() over (partition by user_code order by known_at, place) as arrival
from (
    select
        user_code,
        item_code,
        timestamp,
        known_at,
        time_known,
        row_number() over in_time as place,
        lag(item_code) over in_time as previous_item,
        lag(time_known) over in_time as previous_time_known
        ${columns}
    from log
    where ${of_history}
    window in_time as (partition by user_code order by timestamp, item_code, known_at, time_known ${columns})
) placed
