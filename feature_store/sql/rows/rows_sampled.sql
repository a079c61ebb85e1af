-- The rows of the chunk: the click of each request and its sampled candidates. row rises in order of (request, item); there
-- are ${items} items.
select q.request * ${items} + q.item_code as row, q.request, q.request as source, q.user_code, q.item_code, q.timestamp, q.last_item,
    cast(1 as tinyint) as label
from kept_requests q
union all
select q.request * ${items} + s.item_code, q.request, q.request, q.user_code, s.item_code, q.timestamp, q.last_item,
    cast(0 as tinyint)
from sampled_candidates s
join kept_requests q on q.request = s.request
