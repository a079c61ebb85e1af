-- Microseconds from the first click on an item to the median click on one, of the clicks known before ${until}.
select median(timestamp - first_time) as age
from (
    select timestamp, min(timestamp) over (partition by item_code) as first_time
    from clicks
    where time_known and known_at < ${until}
) aged
