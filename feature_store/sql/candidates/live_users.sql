-- Users with an event on the date, in the context of their newest one.
select cast(d.user_code as bigint) as request_id, u.user_id ${columns}
from (
    select *, row_number() over (partition by user_code order by timestamp desc, known_at desc, item_code desc ${order}) as age
    from log
    where time_known and timestamp >= ${start} and timestamp < ${end}
) d
join users u on u.user_code = d.user_code
where d.age = 1
