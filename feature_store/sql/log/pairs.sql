-- What was shown and clicked at one moment of one request in two rows: a log may write the impression first and its click later.
select distinct s.user_id, s.item_id, s.timestamp, s.request_id
from events s
join events c
    on c.user_id = s.user_id and c.item_id = s.item_id and c.timestamp = s.timestamp and c.request_id is not distinct from s.request_id
where s.clicked = 0 and c.clicked = 1 and s.time_known and c.time_known
