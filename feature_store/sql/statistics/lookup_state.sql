-- The last row of each key before ${until}, carried from chunk to chunk: what came in since the previous chunk, and of the other
-- keys what was carried before. Only the rows that came in are sorted out; the rest is copied.
with entered as (
    select ${keys} max(moment) as moment, ${columns}
    from (select * from ${table} where moment >= ${since} and moment < ${until}) span
    ${group}
)
select * from entered
union all
select s.* from ${state} s where not exists (select 1 from entered e where ${same})
