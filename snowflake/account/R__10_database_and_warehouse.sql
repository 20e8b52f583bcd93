-- Role: {{ deploy_role }} (CREATE DATABASE and CREATE WAREHOUSE on the account; SYSADMIN has both).
-- The deploy itself creates the database, OPS and the warehouse when they are missing, because the history of
-- this very folder is kept in OPS. What they must look like stands here.
use role {{ deploy_role }};

create database if not exists {{ database }};

alter database {{ database }} set
    data_retention_time_in_days = 1
    comment = 'Amplitude events, from landing to marts. Owner: data engineering; written by the Kestra pipeline';

create warehouse if not exists {{ warehouse }} warehouse_size = 'XSMALL' initially_suspended = true;

-- 60 s: each resume is billed for a minute anyway. One hour is far above every statement of a daily run.
alter warehouse {{ warehouse }} set
    warehouse_size = 'XSMALL'
    auto_suspend = 60
    auto_resume = true
    statement_timeout_in_seconds = 3600
    comment = 'Loads and transforms Amplitude events. Owner: data engineering; used by the Kestra pipeline';

alter schema {{ database }}.ops set
    comment = 'Deploy history and audit. Owner: data engineering; written by deploy, load and the SILVER procedures';
