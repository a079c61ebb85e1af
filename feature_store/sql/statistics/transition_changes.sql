-- Transitions as changes of a count per pair of items: +1 when one becomes known, -1 when it leaves the window. In order of the
-- moment, as in statistics/counts.sql. The changes are doubles, which hold the counts exactly: engines sum integers in 128 bits, at twice
-- the cost.
select previous_item, item_code, moment, sum(change) as change
from (
    select previous_item, item_code, known_at as moment, cast(1 as double) as change from transitions
    union all
    select previous_item, item_code, greatest(known_at, timestamp + ${window}), cast(-1 as double) from transitions
) changes
group by previous_item, item_code, moment
order by moment
