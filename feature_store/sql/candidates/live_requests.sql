-- Requests whose clicked item is live itself: it was clicked, by any user, in the pool's window before the request. A request
-- that fails this is left out, or a click without any count would be known for a click by that alone.
-- The clicks that became known in the window are positions [pool_from, pool_until) of click_order.
-- ASOF (engine-specific): as in statistics/request_state.sql. Few columns pass through the lookups, because each sorts what it is given.
select s.*, live.pool_until, live.pool_from
from seen_requests s
join (
    select
        q.request,
        b.n as pool_until,
        coalesce(e.n, 0) as pool_from
    from (select request, item_code, timestamp from seen_requests) q
    asof join click_counts_span b on b.moment < q.timestamp
    asof left join click_counts_left_span e on e.moment < q.timestamp
    asof left join key_0_clicks_span c on c.key = q.item_code and c.moment < q.timestamp
    asof left join ${left}_span l on l.key = q.item_code and l.moment < q.timestamp
    where ${eligible}
) live on live.request = s.request
