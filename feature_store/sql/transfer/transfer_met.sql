-- Pairs of user and item that met before training ended: what was sampled for a row, shown or clicked, whenever it became known. What
-- comes later is not asked for: it is unknown when a student is trained.
select distinct user_code, item_code
from (
    select "user" as user_code, item as item_code from assembled where split = 'train'
    union all
    select user_code, item_code from log where timestamp < ${until}
) pairs
