-- The distinct values of ${column}, numbered from 0.
select value, cast(row_number() over (order by value) - 1 as bigint) as code
from (select distinct ${column} as value from ${source} where ${column} is not null) found
