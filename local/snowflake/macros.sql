-- Macros of every database ({db}): what Snowflake's functions do and DuckDB's do not.
-- An error text SNOWFLAKE<code>|<state>|<message> becomes that error (errors.py).
-- `case typeof(x) …` is folded when the statement is planned, so a branch for another type costs nothing; TRY_CAST
-- binds for every pair of types, which a plain cast does not.

create or replace macro {db}.main.sf_nonzero(b) as
    case when b = 0 then error('SNOWFLAKE100051|22012|Division by zero') else b end;

-- ---- text
create or replace macro {db}.main.sf_utc_offset(x) as date_diff('second', x at time zone 'UTC', x::timestamp);

create or replace macro {db}.main.sf_zone_text(seconds) as
    case when seconds < 0 then '-' else '+' end
    || lpad((abs(seconds) // 3600)::varchar, 2, '0') || lpad((abs(seconds) % 3600 // 60)::varchar, 2, '0');

create or replace macro {db}.main.sf_ntz_text(x) as strftime(x, '%Y-%m-%d %H:%M:%S.%g');

create or replace macro {db}.main.sf_ltz_text(x) as
    strftime(x::timestamp, '%Y-%m-%d %H:%M:%S.%g ') || sf_zone_text(sf_utc_offset(x));

create or replace macro {db}.main.sf_variant_text(x) as x::varchar::json ->> '$';

create or replace macro {db}.main.sf_text(x) as
    case typeof(x)
        when 'TIMESTAMP' then sf_ntz_text(try_cast(x as timestamp))
        when 'TIMESTAMP WITH TIME ZONE' then sf_ltz_text(try_cast(x as timestamptz))
        when 'JSON' then sf_variant_text(x)
        else x::varchar
    end;

create or replace macro {db}.main.sf_shorter(x, n) as
    case
        when length(x) > n then error('SNOWFLAKE100078|22000|String ''' || x || ''' is too long and would be truncated')
        else x
    end;

-- ---- numbers: `tried` is TRY_CAST of the text, `plain` the cast of the value itself
create or replace macro {db}.main.sf_must_number(x, tried) as
    case
        when x is null then null
        else coalesce(tried, error('SNOWFLAKE100038|22018|Numeric value ''' || x::varchar || ''' is not recognized'))
    end;

create or replace macro {db}.main.sf_number(x, tried, plain) as
    case typeof(x)
        when 'VARCHAR' then sf_must_number(x, tried)
        when 'JSON' then sf_variant(x::varchar::json ->> '$', tried, 'FIXED')
        else plain
    end;

-- A path's text; a JSON null has none. Text in a message stands in quotes, as the account writes the variant.
create or replace macro {db}.main.sf_variant(extracted, tried, type_name) as
    case
        when extracted is null then null
        else coalesce(tried, error(
            'SNOWFLAKE100071|22000|Failed to cast variant value '
            || case when json_valid(extracted) then extracted else '"' || extracted || '"' end || ' to ' || type_name))
    end;

create or replace macro {db}.main.sf_hash(x) as
    case
        when typeof(x) in ('TINYINT', 'SMALLINT', 'INTEGER', 'BIGINT', 'HUGEINT', 'UBIGINT', 'DOUBLE', 'FLOAT')
            or starts_with(typeof(x), 'DECIMAL')
        then sf_signed(hash(try_cast(x as double)))
        else sf_signed(hash(x))
    end;

create or replace macro {db}.main.sf_signed(h) as
    (h::hugeint - case when h >= 9223372036854775808 then 18446744073709551616::hugeint else 0::hugeint end)::bigint;

create or replace macro {db}.main.sf_md5_lower(x) as ('0x' || substr(md5(x), 17, 16))::ubigint::decimal(38, 0);
create or replace macro {db}.main.sf_md5_upper(x) as ('0x' || substr(md5(x), 1, 16))::ubigint::decimal(38, 0);

-- ---- booleans
create or replace macro {db}.main.sf_text_boolean(x) as
    case
        when lower(trim(x)) in ('true', 't', 'yes', 'y', 'on', '1') then true
        when lower(trim(x)) in ('false', 'f', 'no', 'n', 'off', '0') then false
    end;

create or replace macro {db}.main.sf_must_boolean(x) as
    case
        when x is null then null
        else coalesce(
            sf_text_boolean(x), error('SNOWFLAKE100037|22018|Boolean value ''' || x || ''' is not recognized'))
    end;

create or replace macro {db}.main.sf_boolean(x) as
    case
        when typeof(x) in ('VARCHAR', 'JSON') then sf_must_boolean(x::varchar)
        else try_cast(x as boolean)
    end;

-- ---- dates and times. Digits in a text are scaled by their size, a number counts seconds (fn/to_timestamp).
create or replace macro {db}.main.sf_epoch(x, scale) as
    case scale
        when 0 then make_timestamp(x::bigint * 1000000)
        when 3 then make_timestamp(x::bigint * 1000)
        when 6 then make_timestamp(x::bigint)
        else make_timestamp(x::bigint // 1000)
    end;

create or replace macro {db}.main.sf_guessed_epoch(x) as
    case
        when abs(x) < 31536000000 then sf_epoch(x, 0)
        when abs(x) < 31536000000000 then sf_epoch(x, 3)
        when abs(x) < 31536000000000000 then sf_epoch(x, 6)
        else sf_epoch(x, 9)
    end;

create or replace macro {db}.main.sf_try_timestamp(x) as
    case
        when regexp_full_match(x::varchar, '-?\d+') then sf_guessed_epoch(try_cast(x::varchar as bigint))
        else try_cast(regexp_replace(x::varchar, '\s*(Z|[+-]\d\d:?\d\d)$', '') as timestamp)
    end;

create or replace macro {db}.main.sf_must_timestamp(x) as
    case
        when x is null then null
        else coalesce(
            sf_try_timestamp(x),
            error('SNOWFLAKE100035|22007|Timestamp ''' || x || ''' is not recognized'))
    end;

-- A number in a VARIANT is an instant: its wall clock in the session's zone.
create or replace macro {db}.main.sf_variant_timestamp(x) as
    case
        when json_type(x) in ('BIGINT', 'UBIGINT', 'DOUBLE')
            then (sf_epoch(try_cast(x ->> '$' as bigint), 0) at time zone 'UTC')::timestamp
        else sf_must_timestamp(x ->> '$')
    end;

create or replace macro {db}.main.sf_plain_ntz(x) as try_cast(x as timestamp);

create or replace macro {db}.main.sf_ntz(x) as
    case
        when typeof(x) in ('TIMESTAMP', 'DATE', 'TIMESTAMP WITH TIME ZONE', '"NULL"') then try_cast(x as timestamp)
        when typeof(x) = 'VARCHAR' then sf_must_timestamp(x::varchar)
        when typeof(x) = 'JSON' then sf_variant_timestamp(try_cast(x as json))
        else sf_epoch(try_cast(x as bigint), 0)
    end;

create or replace macro {db}.main.sf_must_timestamp_ltz(x) as
    case
        when x is null then null
        when regexp_full_match(x, '-?\d+') then sf_guessed_epoch(try_cast(x as bigint)) at time zone 'UTC'
        else coalesce(
            try_cast(regexp_replace(x, '\s+([+-]\d\d:?\d\d)$', '\1') as timestamptz),
            error('SNOWFLAKE100035|22007|Timestamp ''' || x || ''' is not recognized'))
    end;

create or replace macro {db}.main.sf_plain_ltz(x) as try_cast(x as timestamptz);

create or replace macro {db}.main.sf_ltz(x) as
    case
        when typeof(x) in ('TIMESTAMP', 'DATE', 'TIMESTAMP WITH TIME ZONE', '"NULL"') then try_cast(x as timestamptz)
        when typeof(x) = 'VARCHAR' then sf_must_timestamp_ltz(x::varchar)
        else sf_epoch(try_cast(x as bigint), 0) at time zone 'UTC'
    end;

create or replace macro {db}.main.sf_zone(zone, x) as timezone(zone, x);

create or replace macro {db}.main.sf_try_date(x) as
    case when regexp_full_match(x, '\d{4}-\d{1,2}-\d{1,2}.*') then try_cast(x as date) end;

create or replace macro {db}.main.sf_must_date(x) as
    case
        when x is null then null
        else coalesce(
            try_cast(x as date), error('SNOWFLAKE100040|22007|Date ''' || x || ''' is not recognized'))
    end;

create or replace macro {db}.main.sf_plain_date(x) as try_cast(x as date);

create or replace macro {db}.main.sf_date(x) as
    case
        when typeof(x) in ('VARCHAR', 'JSON') then sf_must_date(x::varchar)
        else try_cast(x as date)
    end;

-- ---- semi-structured
create or replace macro {db}.main.sf_type_name(x) as
    case json_type(x::json)
        when 'NULL' then 'NULL_VALUE'
        when 'BIGINT' then 'INTEGER'
        when 'UBIGINT' then 'INTEGER'
        when 'HUGEINT' then 'INTEGER'
        when 'DOUBLE' then 'DECIMAL'
        else json_type(x::json)
    end;

create or replace macro {db}.main.sf_is_null_value(x) as
    case when x is null then null else json_type(x::json) = 'NULL' end;

-- A repeated key is no JSON to an account (PARSE_JSON is strict; ALLOW_DUPLICATE = FALSE). Looked for among the keys of
-- the outermost object only: a look at all depths costs a millisecond for each event.
create or replace macro {db}.main.sf_repeats(x) as
    case when json_valid(x) then coalesce(len(json_keys(x)) <> list_unique(json_keys(x)), false) else false end;

create or replace macro {db}.main.sf_parse_json(x) as
    case
        when trim(x) = '' then null
        when sf_repeats(x) then error('SNOWFLAKE100069|22P02|Error parsing JSON: duplicate object attribute: ' || x)
        when json_valid(x) then x::json
        else error('SNOWFLAKE100069|22P02|Error parsing JSON: ' || x)
    end;

create or replace macro {db}.main.as_object(x) as case when json_type(x::json) = 'OBJECT' then x::json end;
create or replace macro {db}.main.as_array(x) as case when json_type(x::json) = 'ARRAY' then x::json end;
create or replace macro {db}.main.as_varchar(x) as case when json_type(x::json) = 'VARCHAR' then x::json ->> '$' end;
create or replace macro {db}.main.as_integer(x) as
    case when sf_type_name(x) = 'INTEGER' then (x::json ->> '$')::bigint end;

create or replace macro {db}.main.sf_try_parse_json(x) as
    case when trim(x) = '' or sf_repeats(x) then null when json_valid(x) then x::json end;

-- FLATTEN: json_each and json_tree take keys such as "$insert_id" and "/x" as they are.
create or replace macro {db}._fs_flatten(input) as table
    select
        hash(to_json(input))::ubigint as SEQ,
        case when json_type(to_json(input)) = 'OBJECT' then key end as KEY,
        case when json_type(to_json(input)) = 'OBJECT' then key else '[' || key || ']' end as PATH,
        case when json_type(to_json(input)) = 'ARRAY' then key::bigint end as INDEX,
        value as VALUE,
        to_json(input) as THIS
    from json_each(to_json(input));

create or replace macro {db}.main.sf_flatten_outer(input) as table
    select SEQ, KEY, PATH, INDEX, VALUE, THIS from _fs_flatten(input)
    union all
    select 1, null, null, null, null, to_json(input)
    where not exists (from _fs_flatten(input));

create or replace macro {db}.main.sf_flatten_recursive(input) as table
    select
        hash(to_json(input))::ubigint as SEQ,
        case when try_cast(key as bigint) is null then key end as KEY,
        replace(ltrim(regexp_replace(fullkey, '^\$', ''), '.'), '"', '') as PATH,
        try_cast(key as bigint) as INDEX,
        value as VALUE,
        to_json(input) as THIS
    from json_tree(to_json(input))
    where key is not null;
