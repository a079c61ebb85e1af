-- Transitions in the long window, as a running count per pair of items: +1 when one becomes known, -1 when it leaves the
-- window. Only the pairs that the rows of the chunk ask for, and only those in the window at some time of the chunk.
-- The counts are doubles, which hold them exactly: engines sum integers in 128 bits, at twice the cost.
with active as (
    select t.*
    from (
        select * from transitions where known_at < ${until} and timestamp >= ${since} - ${window}
    ) t
    join (select distinct last_item, item_code from chunk_rows) asked
        on asked.last_item = t.previous_item and asked.item_code = t.item_code
),
changes as (
    select previous_item, item_code, known_at as moment, cast(1 as double) as change from active
    union all
    select previous_item, item_code, greatest(known_at, timestamp + ${window}), cast(-1 as double) from active
)
select
    previous_item,
    item_code,
    moment,
    sum(change) over (partition by previous_item, item_code order by moment rows between unbounded preceding and current row) as n
from (
    select previous_item, item_code, moment, sum(change) as change
    from changes
    where moment < ${until}
    group by previous_item, item_code, moment
) summed
