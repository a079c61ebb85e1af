-- Transitions in the window just before ${until}, per pair of items that has any: carried from chunk to chunk.
select previous_item, item_code, sum(change) as n
from (
    select previous_item, item_code, n as change from ${name}_state
    union all
    select previous_item, item_code, change from ${name}_changes where moment >= ${since} and moment < ${until}
) carried
group by previous_item, item_code
having sum(change) <> 0
