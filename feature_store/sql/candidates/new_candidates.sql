-- The first distinct items that were drawn, in the order of the draws, as many as a request still lacks.
select request, item_code
from (
    select n.request, n.item_code, q.sampled + row_number() over (partition by n.request order by n.k) as number
    from (
        select request, item_code, min(k) as k
        from accepted
        group by request, item_code
    ) n
    join short_requests q on q.request = n.request
    left join sampled_candidates s on s.request = n.request and s.item_code = n.item_code
    where s.request is null
) numbered
where number <= ${per_click}
