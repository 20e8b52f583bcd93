-- Access roles are database roles: they live and die with their database, so two environments in one account stay
-- apart, and the owner of the database may make and grant them. Functional roles: account/R__20_roles.sql.
create database role if not exists raw_loader
    comment = 'Writes the landing table from the stage. Owner: data engineering; for AMPLITUDE_LOADER';
create database role if not exists raw_reader
    comment = 'Reads the landing table. Owner: data engineering; for AMPLITUDE_TRANSFORMER';
create database role if not exists silver_reader
    comment = 'Reads SILVER. Owner: data engineering; for AMPLITUDE_TRANSFORMER and AMPLITUDE_PII_READER';
create database role if not exists dbt_builder
    comment = 'Makes tables and views in the dbt schemas. Owner: data engineering; for AMPLITUDE_TRANSFORMER';
create database role if not exists marts_reader
    comment = 'Reads the marts. Owner: data engineering; for AMPLITUDE_REPORTER and AMPLITUDE_PII_READER';
create database role if not exists pipeline_watcher
    comment = 'Sees the state of streams, tasks and marts, and no row. Owner: data engineering; for AMPLITUDE_LOADER';
create database role if not exists sensitive_reader
    comment = 'Reads SENSITIVE. Owner: data protection; for AMPLITUDE_PII_READER';

grant usage on database {{ database }} to database role raw_loader;
grant usage on schema {{ raw_schema }} to database role raw_loader;
grant select, insert on table {{ raw_schema }}.amplitude_events_raw_python to database role raw_loader;
grant usage on stage {{ raw_schema }}.amplitude_events_stage to database role raw_loader;
grant monitor, operate on pipe {{ raw_schema }}.amplitude_events_pipe to database role raw_loader;
grant usage on file format {{ raw_schema }}.amplitude_json to database role raw_loader;
grant usage on file format {{ raw_schema }}.amplitude_text_lines to database role raw_loader;
grant usage on schema ops to database role raw_loader;
grant select, insert on table ops.load_audit to database role raw_loader;
grant select, insert on table ops.rejected_rows to database role raw_loader;
grant select, insert on table ops.reconciliation to database role raw_loader;

grant usage on database {{ database }} to database role raw_reader;
grant usage on schema {{ raw_schema }} to database role raw_reader;
grant select on table {{ raw_schema }}.amplitude_events_raw_python to database role raw_reader;
grant select on view {{ raw_schema }}.amplitude_events_raw_python_freshness to database role raw_reader;

grant usage on database {{ database }} to database role silver_reader;
grant usage on schema silver to database role silver_reader;
grant select on all tables in schema silver to database role silver_reader;
grant select on all views in schema silver to database role silver_reader;

grant usage on database {{ database }} to database role dbt_builder;
grant usage, create table, create view on schema staging to database role dbt_builder;
grant usage, create table, create view on schema intermediate to database role dbt_builder;
grant usage, create table, create view on schema marts to database role dbt_builder;
grant usage, create table, create view on schema sensitive to database role dbt_builder;

-- For pipeline_health. SHOW lists what one has any privilege on; REFERENCES is the one that reads nothing.
grant usage on database {{ database }} to database role pipeline_watcher;
grant usage on schema {{ raw_schema }} to database role pipeline_watcher;
grant usage on schema silver to database role pipeline_watcher;
grant usage on schema marts to database role pipeline_watcher;
grant select on stream {{ raw_schema }}.amplitude_events_stream to database role pipeline_watcher;
grant select on stream silver.amplitude_events_base1_stream to database role pipeline_watcher;
grant monitor on task silver.amplitude_base_update_task to database role pipeline_watcher;
grant monitor on task silver.amplitude_normalised_update_task to database role pipeline_watcher;
grant references on all tables in schema marts to database role pipeline_watcher;
grant references on future tables in schema marts to database role pipeline_watcher;

-- dbt replaces its tables at each build: what comes must be readable as well as what is there.
grant usage on database {{ database }} to database role marts_reader;
grant usage on schema marts to database role marts_reader;
grant select on all tables in schema marts to database role marts_reader;
grant select on all views in schema marts to database role marts_reader;
grant select on future tables in schema marts to database role marts_reader;
grant select on future views in schema marts to database role marts_reader;

grant usage on database {{ database }} to database role sensitive_reader;
grant usage on schema sensitive to database role sensitive_reader;
grant select on all tables in schema sensitive to database role sensitive_reader;
grant select on all views in schema sensitive to database role sensitive_reader;
grant select on future tables in schema sensitive to database role sensitive_reader;
grant select on future views in schema sensitive to database role sensitive_reader;

grant database role raw_loader to role amplitude_loader;
grant database role pipeline_watcher to role amplitude_loader;
grant database role raw_reader to role amplitude_transformer;
grant database role silver_reader to role amplitude_transformer;
grant database role dbt_builder to role amplitude_transformer;
grant database role marts_reader to role amplitude_reporter;
grant database role marts_reader to role amplitude_pii_reader;
grant database role sensitive_reader to role amplitude_pii_reader;
grant database role silver_reader to role amplitude_pii_reader;

grant usage, operate on warehouse {{ warehouse }} to role amplitude_loader;
grant usage, operate on warehouse {{ warehouse }} to role amplitude_transformer;
grant usage on warehouse {{ warehouse }} to role amplitude_reporter;
grant usage on warehouse {{ warehouse }} to role amplitude_pii_reader;
