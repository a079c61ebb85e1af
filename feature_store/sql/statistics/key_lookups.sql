-- What holds of one key at the time of each ${id}.
-- ASOF (engine-specific): as in statistics/request_state.sql.
select r.${id}, r.${key} as key ${columns}
from (select ${id}, ${key}, timestamp from ${rows} where ${key} is not null) r
${lookups}
