-- The last row of each key before ${until}: carried from chunk to chunk, so that a chunk sorts its own time span only.
select ${keys} max(moment) as moment, ${columns}
from (
    select * from ${table}_state
    union all
    select * from ${table} where moment >= ${since} and moment < ${until}
) seen
${group}
