-- The as-of statistics of each row of the chunk. A windowed count is the number of clicks that became known minus the number
-- of those that left the window, each by one lookup of a running count; what does not exist is null.
-- ASOF (engine-specific): as in statistics/request_state.sql. Few columns pass through the lookups, because each sorts what it is given.
select
    i.row,
    i.item_age,
    ${counts}
    ${ctr}
    cast(coalesce(u.n, 0) as float) as user_item_clicks,
    cast(case when i.last_item is not null then coalesce(t.n, 0) end as float) as transition_clicks,
    ${pool_count} as pool_count
from (
    select
        r.row,
        r.last_item,
        cast((r.timestamp - f.first_click) / 1e6 as float) as item_age,
        coalesce(c.n, 0) as clicks
        ${columns}
    from chunk_rows r
    left join item_first_clicks f
        on f.item_code = r.item_code and f.moment < r.timestamp and (f.until is null or r.timestamp <= f.until)
    asof left join item_clicks_span c on c.item_code = r.item_code and c.moment < r.timestamp
    ${joins}
) i
left join user_item_counts u on u.row = i.row
left join transition_counts t on t.row = i.row
