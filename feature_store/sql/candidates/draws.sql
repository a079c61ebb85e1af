-- Random integers in [0, 2147483647) for draws k = ${since} .. ${until} - 1 of each request that lacks candidates: a hash of
-- (seed, time, tie, k) that any engine with 64-bit integers computes, and that depends on nothing after the request.
-- Each step squares modulo the prime 2^31 - 1 and multiplies modulo the next smaller prime; products stay below 2^63. The two
-- primes matter: modulo one alone, draws would be a polynomial of k, and later draws would follow from earlier ones.
select request, item_code as clicked_item, timestamp, pool_from, pool_until, k, s4 * (s4 + 12345) % 2147483647 as draw
from (
    select *, s3 * (s3 + 12345) % 2147483647 * 48271 % 2147483629 as s4
    from (
        select *, (s2 * (s2 + 12345) + k * 1664525) % 2147483647 * 48271 % 2147483629 as s3
        from (
            select *, (s1 * (s1 + 12345) + tie * 69621) % 2147483647 * 48271 % 2147483629 as s2
            from (
                select *, (timestamp % 2147483647 + ${seed}) % 2147483647 * 48271 % 2147483629 as s1
                from short_requests
            ) timed
        ) tied
        cross join (select cast(k as bigint) as k from range(${since}, ${until}) as counted(k)) ks
    ) numbered
) mixed
