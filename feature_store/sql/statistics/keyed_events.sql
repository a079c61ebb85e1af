-- The events of ${source} with the number of each key that they are counted by.
select e.timestamp, e.moment ${keys}
from (${source}) e
${joins}
