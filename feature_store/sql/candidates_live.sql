-- Users with an event on the date, in the context of their newest one, times the items clicked in the window before ${moment}.
select
    row_number() over (order by d.user_code, l.item_code) - 1 as row,
    cast(d.user_code as bigint) as request_id,
    u.user_id,
    i.item_id,
    cast(${moment} as bigint) as timestamp
    ${columns}
from (
    select *, row_number() over (partition by user_code order by timestamp desc, known_at desc, item_code desc ${columns}) as age
    from log
    where time_known and timestamp >= ${start} and timestamp < ${end}
) d
cross join (
    select distinct item_code
    from clicks
    where time_known and known_at < ${moment} and timestamp >= ${moment} - ${window}
) l
join users u on u.user_code = d.user_code
join items i on i.item_code = l.item_code
where d.age = 1
