-- The rows of the chunk: items of its requests, by their places in the frame. Ids compare by their text.
select f.place as row, q.request as source, i.item_code, q.*
from (select * from frame_rows where request >= ${first} and request < ${last}) f
join seen_requests q on q.request = f.request
left join items i on cast(i.item_id as string) = f.item_id
