-- Dense codes of the items, in the order of their ids: of every item that was shown, clicked or described.
select
    cast(row_number() over (order by i.item_id) - 1 as int) as item_code,
    i.*
from (
    select ids.item_id ${attributes}
    from (select item_id from events union select item_id from described_items) ids
    left join described_items d on d.item_id = ids.item_id
) i
