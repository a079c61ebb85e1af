-- Requests of rows that come from elsewhere, numbered in order of time. Ids compare by their text.
select f.request, u.user_code, f.timestamp ${context}
from frame_requests f
left join users u on cast(u.user_id as string) = f.user_id
