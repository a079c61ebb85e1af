-- What is looked up for the rows of the chunk, ${id} by ${id}, with the number of each key; the context is that of the row's source.
select e.${id}, e.timestamp ${keys}
from (
    select ${distinct} r.${id}, r.user_code, ${item} r.timestamp ${context}
    from chunk_rows r
    ${sources}
) e
${joins}
