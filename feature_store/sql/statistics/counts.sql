-- How many rows of ${source} with the same key lie at or before each moment. Rows of one moment carry the same count, so
-- the last row before a time tells the number of rows strictly before it. In order of the moment, so that a chunk reads its own
-- span of the table and no more.
select ${keys}, moment, count(*) over (partition by ${keys} order by moment) as n
from (select ${keys}, ${moment} as moment from ${source}) moments
order by moment
