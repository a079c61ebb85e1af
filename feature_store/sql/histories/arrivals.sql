-- What was known of a user after each moment at which clicks of theirs became known.
--   known        number of clicks known
--   last_time    newest known time among them
--   newest_item  item of the newest of them
--   run          0, 1, ...: a new one starts whenever a click arrives that is older than one already known
select
    user_code,
    known_at,
    known,
    last_time,
    newest_item,
    cast(sum(case when first_place < newest_place_before then 1 else 0 end) over (partition by user_code order by known_at) as bigint) as run
from (
    select
        user_code,
        known_at,
        known,
        first_place,
        max(last_time) over earlier_or_now as last_time,
        max_by(newest_item, last_place) over earlier_or_now as newest_item,
        max(last_place) over (partition by user_code order by known_at rows between unbounded preceding and 1 preceding)
            as newest_place_before
    from (
        select
            user_code,
            known_at,
            max(arrival) as known,
            min(place) as first_place,
            max(place) as last_place,
            max(case when time_known then timestamp end) as last_time,
            max_by(item_code, place) as newest_item
        from clicks
        group by user_code, known_at
    ) moments
    window earlier_or_now as (partition by user_code order by known_at rows between unbounded preceding and current row)
) cumulated
