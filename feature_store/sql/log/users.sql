-- Dense codes of the users, in the order of their ids: of every user with an event or a description.
select
    cast(row_number() over (order by u.user_id) - 1 as int) as user_code,
    u.*
from (
    select ids.user_id ${attributes}
    from (select user_id from events union select user_id from described_users) ids
    left join described_users d on d.user_id = ids.user_id
) u
