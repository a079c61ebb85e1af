-- The rows of the chunk: what was chosen for its requests, in the context of each request's first row of the log. No label: -1.
select q.request * ${items} + c.item_code as row, q.request, r.source, q.user_code, cast(c.item_code as int) as item_code, q.timestamp,
    q.last_item, cast(-1 as tinyint) as label ${overall_rate}
from kept_requests q
join chosen c on c.request = q.request
join (
    select request, min(${number}) as source
    from requests
    where request >= ${start} and request < ${end}
    group by request
) r on r.request = q.request
