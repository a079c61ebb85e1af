-- The requests that still lack candidates, with the number they have.
select q.request, q.tie, q.item_code, q.timestamp, q.pool_from, q.pool_until, coalesce(s.sampled, 0) as sampled
from ${requests} q
left join (select request, count(*) as sampled from sampled_candidates group by request) s on s.request = q.request
where q.pool_until > q.pool_from and coalesce(s.sampled, 0) < ${per_click}
