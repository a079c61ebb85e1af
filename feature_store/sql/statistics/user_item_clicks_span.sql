-- Clicks of a user on an item, for the pairs that the rows of the chunk ask for.
select user_code, item_code, moment, n
from (select * from user_item_clicks where moment < ${until}) c
semi join chunk_rows r on r.user_code = c.user_code and r.item_code = c.item_code
