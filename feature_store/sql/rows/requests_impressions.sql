-- A log of impressions: its events at known times are the rows, those of one (time, user, request id) are one request.
select
    cast(dense_rank() over (order by timestamp, user_code, request_id nulls first, alone) - 1 as bigint) as request,
    *
from (
    select
        numbered.*,
        case when request_id is null then impression else 0 end as alone
    from (
        select
            cast(row_number() over (order by timestamp, user_code, request_id nulls first, item_code, clicked, known_at ${order}) - 1 as bigint)
                as impression,
            user_code,
            item_code,
            timestamp,
            known_at,
            clicked as label,
            request_id
            ${columns}
        from log
        where time_known and clicked is not null
    ) numbered
) singled
