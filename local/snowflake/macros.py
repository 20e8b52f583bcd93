"""DuckDB macros for what Snowflake's functions do and DuckDB's do not, and the tables of each database."""

from __future__ import annotations

from local.snowflake.translate import HIDDEN, database_ddl

# Tables in every database file, so that one DuckDB transaction can write them beside the rows they belong to.
_TABLES = f"""
create schema if not exists {{db}}.{HIDDEN};
create table if not exists {{db}}.{HIDDEN}.objects(
    kind varchar, database_name varchar, schema_name varchar, name varchar, properties json);
create table if not exists {{db}}.{HIDDEN}.loads(
    schema_name varchar, table_name varchar, file varchar, etag varchar, bytes bigint, modified timestamptz,
    load_time timestamptz, status varchar, row_count bigint, row_parsed bigint, first_error varchar,
    first_error_line bigint, first_error_character bigint, first_error_column varchar, error_count bigint,
    error_limit bigint, pipe varchar, stage varchar, remembered boolean, received timestamptz);
create table if not exists {{db}}.{HIDDEN}.pipe_files(pipe varchar, key varchar, received timestamptz);
"""

# A macro's error text is SNOWFLAKE<code>|<state>|<message>; errors.py makes the error of it.
_MACROS = """
sf_utc_offset(x) as date_diff('second', x at time zone 'UTC', x::timestamp)
sf_epoch_timestamp(x) as case when abs(x) < 31536000000 then make_timestamp(x * 1000000) when abs(x) < 31536000000000 then make_timestamp(x * 1000) when abs(x) < 31536000000000000 then make_timestamp(x) else make_timestamp(x // 1000) end
sf_text_timestamp(x) as case when regexp_full_match(x, '-?\\d+') then sf_epoch_timestamp(x::bigint) else try_cast(x as timestamp) end
sf_text_boolean(x) as case when lower(trim(x)) in ('true', 't', 'yes', 'y', 'on', '1') then true when lower(trim(x)) in ('false', 'f', 'no', 'n', 'off', '0') then false end
sf_nonzero(b) as case when b = 0 then error('SNOWFLAKE100051|22012|Division by zero') else b end
sf_md5_lower(x) as ('0x' || substr(md5(x), 17, 16))::ubigint::decimal(38, 0)
sf_md5_upper(x) as ('0x' || substr(md5(x), 1, 16))::ubigint::decimal(38, 0)
sf_json_text(x) as case when json_type(x) = 'NULL' then null when json_type(x) = 'VARCHAR' then x ->> '$' else x::varchar end
sf_type_name(x) as case json_type(x::json) when 'NULL' then 'NULL_VALUE' when 'BIGINT' then 'INTEGER' when 'UBIGINT' then 'INTEGER' when 'HUGEINT' then 'INTEGER' when 'DOUBLE' then 'DECIMAL' else json_type(x::json) end
sf_is_null_value(x) as case when x is null then null else json_type(x::json) = 'NULL' end
sf_parse_text(x) as case when trim(x) = '' then null when json_valid(x) then x::json else error('SNOWFLAKE100069|22P02|Error parsing JSON: ' || x) end
sf_try_parse_text(x) as case when trim(x) = '' then null when json_valid(x) then x::json end
sf_shorter(x, n) as case when length(x) > n then error('SNOWFLAKE100078|22000|String ''' || x || ''' is too long and would be truncated') else x end
sf_try_timestamp(x) as sf_text_timestamp(x::varchar)
sf_must_timestamp(x) as case when x is null then null else coalesce(sf_text_timestamp(x::varchar), error('SNOWFLAKE100035|22007|Timestamp ''' || x || ''' is not recognized')) end
sf_try_date(x) as case when regexp_full_match(x, '\\d{4}-\\d{1,2}-\\d{1,2}.*') then try_cast(x as date) end
sf_must_date(x) as case when x is null then null else coalesce(try_cast(x::varchar as date), error('SNOWFLAKE100040|22007|Date ''' || x || ''' is not recognized')) end
sf_ntz(x) as x::timestamp
as_object(x) as case when json_type(x::json) = 'OBJECT' then x::json end
sf_ntz_text(x) as strftime(x, '%Y-%m-%d %H:%M:%S.%g')
sf_ltz_text(x) as strftime(x, '%Y-%m-%d %H:%M:%S.%g ') || case when sf_utc_offset(x) < 0 then '-' else '+' end || lpad((abs(sf_utc_offset(x)) // 3600)::varchar, 2, '0') || lpad((abs(sf_utc_offset(x)) % 3600 // 60)::varchar, 2, '0')
sf_must_boolean(x) as case when x is null then null else coalesce(sf_text_boolean(x), error('SNOWFLAKE100037|22018|Boolean value ''' || x || ''' is not recognized')) end
sf_must_number(x, v) as case when x is null then null else coalesce(v, error('SNOWFLAKE100038|22018|Numeric value ''' || x || ''' is not recognized')) end
sf_must_variant(x, v, t) as case when x is null or json_type(x) = 'NULL' then null else coalesce(v, error('SNOWFLAKE100071|22000|Failed to cast variant value ' || x::varchar || ' to ' || t)) end
sf_signed_hash(x) as (hash(x)::hugeint - case when hash(x) >= 9223372036854775808 then 18446744073709551616::hugeint else 0::hugeint end)::bigint
"""
_FLATTEN = """
create or replace macro {db}._fs_flatten(input) as table
    select
        hash(to_json(input))::ubigint as SEQ,
        case when json_type(to_json(input)) = 'OBJECT' then key end as KEY,
        case when json_type(to_json(input)) = 'OBJECT' then key else '[' || key || ']' end as PATH,
        case when json_type(to_json(input)) = 'ARRAY' then key::bigint end as INDEX,
        value as VALUE,
        to_json(input) as THIS
    from json_each(to_json(input))
"""


def macros_ddl(database: str) -> str:
    """A macro belongs to one database: DuckDB looks it up in the current one."""
    return ";\n".join(f'create or replace macro "{database}".main.{line}' for line in _MACROS.strip().splitlines())


def prepare_database_ddl(database: str) -> str:
    """Everything that a database file needs before its first use; safe to repeat."""
    quoted = f'"{database}"'
    parts = [database_ddl(database), _TABLES.format(db=quoted), macros_ddl(database), _FLATTEN.format(db=quoted)]
    return ";".join(part.strip().rstrip(";") for part in parts)
