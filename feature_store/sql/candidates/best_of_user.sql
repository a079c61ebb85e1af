-- The numbers of the rows with the highest scores of each user.
select row
from ranking
qualify row_number() over (partition by user_id order by score desc, row) <= ${best}
