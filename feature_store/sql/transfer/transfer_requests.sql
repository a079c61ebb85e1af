-- The training requests of the chunk, with the clicks that became known in the pool's window: positions [pool_from, pool_until) of
-- click_order. None of their items is the clicked one: pairs that met are left out by transfer/transfer_accepted.sql.
-- ASOF (engine-specific): as in statistics/request_state.sql. Few columns pass through the lookups, because each sorts what it is given.
select s.*, s.request as tie, cast(-1 as int) as item_code, pool.pool_until, pool.pool_from
from seen_requests s
join (
    select q.request, b.n as pool_until, coalesce(e.n, 0) as pool_from
    from (select request, timestamp from seen_requests) q
    asof join click_counts_span b on b.moment < q.timestamp
    asof left join click_counts_left_span e on e.moment < q.timestamp
) pool on pool.request = s.request
