create table if not exists ops.load_audit (
    part_key varchar not null comment 'Object key of the part',
    hour_start timestamp_ntz not null comment 'Server-upload hour of the part, UTC',
    ledger_version number(9, 0) not null comment 'Version of the hour in the ledger',
    rows_expected number(38, 0) not null comment 'Lines that the version says the part has',
    rows_loaded number(38, 0) not null comment 'Distinct SOURCE_ROW of the part in the landing table',
    rows_stored number(38, 0) not null comment 'Rows of the part in the landing table; above rows_loaded: loaded twice',
    loaded_by varchar not null comment 'earlier (was there already), pipe or copy',
    problem varchar comment 'Why rows are missing; null when all are there',
    checked_at timestamp_ntz not null comment 'When the check ran, UTC'
)
comment = 'One row per part and load check. Owner: data engineering; written by the load task';

create table if not exists ops.rejected_rows (
    part_key varchar not null comment 'Object key of the part',
    source_row number(38, 0) not null comment 'Line of the part, from 1',
    reason varchar not null comment 'Why Snowflake refused the line; never its content',
    found_at timestamp_ntz not null comment 'When the part was read as text, UTC'
)
comment = 'Lines that are in a part but not in the landing table. Owner: data engineering; written by the load task';
