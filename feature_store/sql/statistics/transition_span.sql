-- Transitions in the window as a running count, from before the chunk to its end, for the pairs that its rows ask for.
select
    previous_item,
    item_code,
    moment,
    sum(change) over (partition by previous_item, item_code order by moment rows between unbounded preceding and current row) as n
from (
    select previous_item, item_code, cast(${beginning} as bigint) as moment, n as change from ${name}_state
    union all
    select previous_item, item_code, moment, change from ${name}_changes where moment >= ${start} and moment < ${until}
) changes
semi join ${name}_asked using (previous_item, item_code)
