-- A draw picks one of the clicks that became known in the window. A late one among them may lie before the window: it is
-- rejected, which leaves the draw uniform over the clicks in the window.
select d.request, d.k, p.item_code
from draws d
join (select * from click_order where position >= ${first} and position < ${last}) p
    on p.position = d.pool_from + d.draw % (d.pool_until - d.pool_from)
where p.item_code <> d.clicked_item and p.timestamp >= d.timestamp - ${window}
