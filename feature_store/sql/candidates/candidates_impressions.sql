-- Some impressions, by number.
select r.impression as row, r.request_id, u.user_id, i.item_id, r.timestamp ${columns}
from requests r
join users u on u.user_code = r.user_code
join items i on i.item_code = r.item_code
where r.impression >= ${first} and r.impression < ${last}
