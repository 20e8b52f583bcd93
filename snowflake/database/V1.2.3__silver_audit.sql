create table if not exists ops.silver_audit (
    procedure_name varchar not null comment 'Which of the two procedures of SILVER',
    started_at timestamp_ntz(9) not null comment 'UTC',
    finished_at timestamp_ntz(9) not null comment 'UTC',
    status varchar not null
    comment 'ok; failed: nothing was kept, the rows wait in the stream; new stream: the next run reads the whole table',
    rows_read number(38, 0) comment 'Rows in the stream',
    rows_stored number(38, 0) comment 'Rows stored or changed; fewer than read: repeats',
    malformed number(38, 0) comment 'Values that did not fit their type and became null',
    without_uuid number(38, 0) comment 'Rows left out because they name no event',
    problem varchar comment 'Code and state of the error'
)
comment = 'One row per run of a procedure. Owner: data engineering; written by the procedures of SILVER';
