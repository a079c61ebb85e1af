-- Clicks in the window on the item that directly followed the last item of the history (after_last), any of its items (after_any), and
-- any of them weighted by 1/place (by_recency), for the rows that have any. Weights are whole multiples of 2^-30, so that a sum is exact
-- and the same in whatever order an engine adds.
-- ASOF (engine-specific): as in statistics/request_state.sql.
select
    row,
    sum(case when place = 1 then n else 0 end) as after_last,
    sum(n) as after_any,
    sum(n * round(1.073741824e9 / place)) / 1.073741824e9 as by_recency
from (
    select a.row, a.place, t.n
    from ${name}_asked a
    asof join ${name}_span t on t.previous_item = a.previous_item and t.item_code = a.item_code and t.moment < a.timestamp
) found
group by row
