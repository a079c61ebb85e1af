-- A draw picks one of the items that came up in the slot of time before the request. One that is not live any more is
-- rejected, which leaves the draw uniform over the live items.
-- ASOF (engine-specific): as in statistics/request_state.sql.
select p.request, p.k, p.item_code
from (
    select n.request, n.k, n.timestamp, n.clicked_item, s.item_code
    from (
        select d.*, c.n as items
        from (select *, cast((timestamp - timestamp % ${slot}) / ${slot} as bigint) as slot from draws) d
        asof join (
            select * from slot_counts where slot >= ${first} and slot <= ${last}
        ) c on c.slot = d.slot and c.moment < d.timestamp
    ) n
    join (select * from pool_slots where slot >= ${first} and slot <= ${last}) s
        on s.slot = n.slot and s.number = n.draw % n.items + 1
) p
asof left join key_0_clicks_span c on c.key = p.item_code and c.moment < p.timestamp
asof left join ${left}_span l on l.key = p.item_code and l.moment < p.timestamp
where p.item_code <> p.clicked_item and coalesce(c.n, 0) - coalesce(l.n, 0) > 0
