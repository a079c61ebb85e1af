-- As statistics/counts.sql, over all rows whatever their key.
select ${moment} as moment, count(*) over (order by ${moment}) as n
from ${source} rows
order by moment
