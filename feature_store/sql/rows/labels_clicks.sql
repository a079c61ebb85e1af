-- Scored rows of users who clicked anything, with whether it was this item: a log of clicks only does not say what was shown.
select s.row, s.user_id, s.score, cast(coalesce(max(e.item_id = s.item_id), false) as tinyint) as label ${weight}
from scored s
join events e on e.user_id = s.user_id and ${when}
where e.time_known and e.clicked = 1
group by s.row, s.user_id, s.score
