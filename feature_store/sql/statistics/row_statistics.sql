-- The as-of statistics of each row of the chunk. A windowed count is the number of events that became known minus the number of
-- those that left the window, each by one lookup of a running count; what does not exist is null.
-- ASOF (engine-specific): as in statistics/request_state.sql. Few columns pass through the lookups, because each sorts what it is given.
select
    r.row,
    ${values},
    ${pool_count} as pool_count
from chunk_rows r
${keys}
left join user_item_counts u on u.row = r.row
${transitions}
