-- Earlier clicks of the user on the item, for the rows that have any.
-- ASOF (engine-specific): as in statistics/request_state.sql.
select r.row, u.n
from (
    select row, user_code, item_code, timestamp
    from chunk_rows r
    semi join user_item_clicks_span u on u.user_code = r.user_code and u.item_code = r.item_code
) r
asof join user_item_clicks_span u on u.user_code = r.user_code and u.item_code = r.item_code and u.moment < r.timestamp
