-- The rows of the chunk: the impressions of its requests.
select
    r.impression as row,
    q.request,
    r.impression as source,
    q.user_code,
    r.item_code,
    q.timestamp,
    q.last_item,
    r.label,
    q.overall_rate
from (select * from requests where ${here}) r
join kept_requests q on q.request = r.request
