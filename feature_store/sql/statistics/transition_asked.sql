-- The pairs that the rows of the chunk ask for: an item of the history and the candidate. Pairs of which none followed the other, in the
-- window or by the end of the chunk, fall away here, because the look-up sorts all that are left.
select a.row, a.previous_item, a.item_code, a.timestamp, a.place
from (${items}) a
semi join (
    select previous_item, item_code from ${name}_state
    union all
    select previous_item, item_code from ${name}_changes where moment >= ${start} and moment < ${until}
) p on p.previous_item = a.previous_item and p.item_code = a.item_code
