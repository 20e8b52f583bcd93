-- Views of INFORMATION_SCHEMA in every database ({db}, as text {name}) that say more than fakesnow's.

create or replace view {db}.{hidden}._fs_tables as
select
    database_name as "TABLE_CATALOG",
    relations.schema_name as "TABLE_SCHEMA",
    table_name as "TABLE_NAME",
    coalesce(properties ->> '$.owner', 'SYSADMIN') as "TABLE_OWNER",
    table_type as "TABLE_TYPE",
    case when table_type = 'BASE TABLE' then 'NO' end as "IS_TRANSIENT",
    null::varchar as "CLUSTERING_KEY",
    row_count as "ROW_COUNT",
    case when table_type = 'BASE TABLE' then 0 end as "BYTES",
    case when table_type = 'BASE TABLE' then 1 end as "RETENTION_TIME",
    (properties ->> '$.created_on')::timestamptz as "CREATED",
    coalesce((properties ->> '$.altered_on')::timestamptz, (properties ->> '$.created_on')::timestamptz) as "LAST_ALTERED",
    coalesce((properties ->> '$.altered_on')::timestamptz, (properties ->> '$.created_on')::timestamptz) as "LAST_DDL",
    properties ->> '$.owner' as "LAST_DDL_BY",
    'NO' as "AUTO_CLUSTERING_ON",
    comment as "COMMENT",
    'NO' as "IS_TEMPORARY",
    'NO' as "IS_ICEBERG",
    'NO' as "IS_DYNAMIC",
    'NO' as "IS_IMMUTABLE",
    'NO' as "IS_HYBRID"
from (
    select database_name, schema_name, table_name, 'BASE TABLE' as table_type, 'TABLE' as kind, estimated_size as row_count, comment
    from duckdb_tables()
    union all
    select database_name, schema_name, view_name, 'VIEW', 'VIEW', null, comment
    from duckdb_views()
    where not internal
) as relations
left join (select kind, schema_name, name, properties from {db}.{hidden}.objects) as known
    on known.kind = relations.kind and known.schema_name = relations.schema_name and known.name = relations.table_name
where database_name = {name} and relations.schema_name <> '{hidden}'
  and (relations.schema_name, table_name) not in (select schema_name, name from {db}.{hidden}.objects where kind = 'STREAM');

-- A stream is a view here; in an account its columns are no columns of the schema.
create or replace view {db}.{hidden}._fs_columns as
select *
from _fs_global._fs_information_schema._fs_columns
where table_catalog = {name}
  and (table_schema, table_name) not in (select schema_name, name from {db}.{hidden}.objects where kind = 'STREAM');

create or replace view {db}.{hidden}.load_history as
select
    schema_name as "SCHEMA_NAME",
    substr(file, 6 + strpos(substr(file, 6), '/')) as "FILE_NAME",
    table_name as "TABLE_NAME",
    load_time as "LAST_LOAD_TIME",
    status as "STATUS",
    row_count as "ROW_COUNT",
    row_parsed as "ROW_PARSED",
    first_error as "FIRST_ERROR_MESSAGE",
    first_error_line as "FIRST_ERROR_LINE_NUMBER",
    first_error_character as "FIRST_ERROR_CHARACTER_POSITION",
    first_error_column as "FIRST_ERROR_COL_NAME",
    error_count as "ERROR_COUNT",
    error_limit as "ERROR_LIMIT"
from {db}.{hidden}.loads
where pipe is null;
