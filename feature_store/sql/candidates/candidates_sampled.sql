-- The rows of the chunk with ids, in the context of the click that they were sampled for.
select c.row, c.request as request_id, u.user_id, i.item_id, c.timestamp ${columns}
from chunk_rows c
join (select * from requests where request >= ${first} and request < ${last}) r on r.request = c.request
join users u on u.user_code = c.user_code
join items i on i.item_code = c.item_code
