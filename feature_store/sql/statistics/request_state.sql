-- What is known of the user at the time of each request of the chunk. hour is counted in UTC.
-- ASOF (engine-specific): the last row of the user with moment < timestamp; elsewhere the union of both tables and
-- last_value(... ignore nulls) over (partition by user_code order by time, requests first).
select
    q.*,
    coalesce(greatest(h.run_start, h.history_end - ${max_length}), 0) as history_start,
    coalesce(h.history_end, 0) as history_end,
    coalesce(h.clicks, 0) as user_clicks,
    cast((q.timestamp - h.last_time) / 1e6 as float) as user_gap,
    cast((q.timestamp % 86400000000 - q.timestamp % 3600000000)
        / 3600000000 as float) as hour,
    h.last_item
    ${overall_rate}
from chunk_requests q
asof left join histories_span h on h.user_code = q.user_code and h.moment < q.timestamp
${overall_joins}
