-- How many events of a key lie at or before each moment, and what else the columns say of these. Events of one moment carry the same
-- values, so the last row before a time tells of the events strictly before it. In order of the moment, so that a chunk reads its own span
-- of the table and no more.
select ${keys}, ${moment} as moment, count(*) over so_far as n ${columns}
from ${source} events
window so_far as (partition by ${keys} order by ${moment})
order by moment
