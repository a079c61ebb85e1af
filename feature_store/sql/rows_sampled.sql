-- The rows of the chunk: the click of each request and its sampled candidates, numbered in order of (request, item).
select row_number() over (order by request, item_code) - 1 as row, *
from (
    select q.request, q.request as source, q.user_code, q.item_code, q.timestamp, q.last_item, cast(1 as tinyint) as label
    from kept_requests q
    union all
    select q.request, q.request, q.user_code, s.item_code, q.timestamp, q.last_item, cast(0 as tinyint)
    from sampled_candidates s
    join kept_requests q on q.request = s.request
) candidates
