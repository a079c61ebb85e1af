-- What was drawn, without the pairs of user and item that met and without what was proposed for the request already.
select d.request, d.k, d.item_code
from drawn d
join kept_requests q on q.request = d.request
left join chunk_met m on m.user_code = q.user_code and m.item_code = d.item_code
left join chunk_proposals p on p.request = d.request and p.item_code = d.item_code
where m.user_code is null and p.request is null
