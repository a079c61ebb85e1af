-- What the file of ${kind}s says of each from a moment on. A row that says nothing of a column leaves what the one before said, so
-- the values of a column are numbered, and all rows up to the next value have it.
select ${kind}_code, moment ${columns}
from (
    select e.${kind}_code, f.* ${groups}
    from ${kind}_facts_file f
    join ${kind}s e on e.${kind}_id = f.${kind}_id
) said
order by moment
