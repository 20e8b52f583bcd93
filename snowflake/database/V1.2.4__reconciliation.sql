create table if not exists ops.reconciliation (
    checked_at timestamp_ntz not null comment 'When the comparison ran, UTC',
    hour_start timestamp_ntz not null comment 'Server-upload hour, UTC',
    state varchar not null comment 'State of the hour in the ledger',
    uuids_ledger number(38, 0) not null comment 'Distinct uuids that the ledger says were exported',
    uuids_backup number(38, 0) comment 'In the newest backup of the hour; null: there is none, or it has expired',
    uuids_raw number(38, 0) comment 'Distinct uuids in the landing table',
    uuids_silver number(38, 0) comment 'Of them in SILVER; null: its tasks are switched off',
    uuids_dbt number(38, 0) comment 'Of them in int_amplitude__events',
    problem varchar comment 'What differs and its likely cause; null: nothing'
)
comment = 'One row per hour and comparison. Owner: data engineering; written by amplitude_reconcile';
