-- Items by slots of time in which they are live at some moment, numbered in the order in which they come up, so that an item
-- can be drawn uniformly by its number. A click keeps its item live from known_at (exclusive) until timestamp + window.
select
    slot,
    item_code,
    moment,
    row_number() over (partition by slot order by moment, item_code) as number
from (
    select c.first_slot + s.step as slot, c.item_code, min(greatest(c.known_at, (c.first_slot + s.step) * ${slot} - 1)) as moment
    from (
        select
            item_code,
            known_at,
            cast((known_at + 1 - (known_at + 1) % ${slot}) / ${slot} as bigint) as first_slot,
            cast((timestamp + ${window} - (timestamp + ${window}) % ${slot}) / ${slot} as bigint) as last_slot
        from click_order
        where known_at < timestamp + ${window}
    ) c
    join (select cast(step as bigint) as step from range(0, ${steps}) as counted(step)) s on c.first_slot + s.step <= c.last_slot
    group by c.first_slot + s.step, c.item_code
) entered
