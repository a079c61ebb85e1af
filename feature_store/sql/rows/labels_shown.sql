-- Scored rows that were shown, with whether they were clicked. An impression may be in the log twice, first without its click.
-- weight is that of the click where there is one.
select s.row, s.user_id, s.score, cast(max(e.clicked) as tinyint) as label ${weight}
from scored s
join events e on e.user_id = s.user_id and e.item_id = s.item_id and ${when}
where e.time_known and e.clicked is not null
group by s.row, s.user_id, s.score
