-- Rows that come from elsewhere as requests of their own, numbered in order of time. Ids compare by their text.
select
    cast(row_number() over (order by f.timestamp, f.place) - 1 as bigint) as request,
    f.place,
    u.user_code,
    i.item_code,
    f.timestamp
    ${context}
from frame f
left join users u on cast(u.user_id as string) = f.user_id
left join items i on cast(i.item_id as string) = f.item_id
