-- ${rows} proposals of each draw: those with the smallest hash of (seed, request, item), computed as in candidates/draws.sql.
select draw, request, item_code
from (
    select draw, request, item_code, row_number() over (partition by draw order by s2 * (s2 + 12345) % 2147483647, request, item_code) as number
    from (
        select *, (s1 * (s1 + 12345) + item_code * 69621) % 2147483647 * 48271 % 2147483629 as s2
        from (
            select draw, request, cast(item_code as bigint) as item_code,
                (request % 2147483647 + ${seed}) % 2147483647 * 48271 % 2147483629 as s1
            from proposals
        ) requested
    ) mixed
) numbered
where number <= ${rows}
