-- What the table of items or users says of each row of the chunk, at its time where the table has times.
-- ASOF (engine-specific): as in statistics/request_state.sql.
select r.row ${columns}
from (select row, ${code}, timestamp from chunk_rows) r
${asof}left join ${table} f on f.${code} = r.${code}${before}
