-- A draw picks one click of the history and one of the ${nearest} items nearest to it, each uniformly. One that is not live at the time of
-- the request is rejected: it may have been unknown then.
-- ASOF (engine-specific): as in statistics/request_state.sql.
select n.request, n.k, n.item_code
from (
    select p.request, p.k, p.timestamp, b.neighbour as item_code
    from (
        select h.request, h.k, h.timestamp, c.item_code, cast((h.draw - h.draw % h.length) / h.length as bigint) % ${nearest} as rank
        from (
            select d.request, d.k, d.timestamp, d.draw, q.history_start, q.history_end - q.history_start as length
            from draws d
            join kept_requests q on q.request = d.request
            where q.history_end > q.history_start
        ) h
        join positions c on c.position = h.history_start + h.draw % h.length
    ) p
    join neighbours b on b.item_code = p.item_code and b.rank = p.rank
) n
asof left join key_0_clicks_span c on c.key = n.item_code and c.moment < n.timestamp
asof left join ${left}_span l on l.key = n.item_code and l.moment < n.timestamp
where coalesce(c.n, 0) - coalesce(l.n, 0) > 0
