-- Clicks in the long window on the item that directly followed the last item of the history, for the rows that have any.
-- ASOF (engine-specific): as in statistics/request_state.sql.
select r.row, t.n
from chunk_rows r
asof join transitions_span t on t.previous_item = r.last_item and t.item_code = r.item_code and t.moment < r.timestamp
