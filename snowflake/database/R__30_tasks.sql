-- A graph changes while its root is suspended; A__20_tasks.sql resumes it. CREATE OR ALTER unsets what it leaves out,
-- so every parameter stands here. WHEN looks at both streams: what a failed child left is picked up by the next run.
alter task if exists silver.amplitude_base_update_task suspend;

create or alter task silver.amplitude_base_update_task
    warehouse = {{ warehouse }}
    user_task_timeout_ms = 3600000
    suspend_task_after_num_failures = 10
    task_auto_retry_attempts = 1
    timezone = 'UTC',
    query_tag = 'amplitude-pipeline/AMPLITUDE_BASE_UPDATE_TASK'
    comment = 'Landing rows to typed events, within a minute. Owner: data engineering; calls AMPLITUDE_BASE_UPDATE'
when
    system$stream_has_data('{{ database }}.{{ raw_schema }}.AMPLITUDE_EVENTS_STREAM')
    or system$stream_has_data('{{ database }}.SILVER.AMPLITUDE_EVENTS_BASE1_STREAM')
as
call silver.amplitude_base_update();

create or alter task silver.amplitude_normalised_update_task
    warehouse = {{ warehouse }}
    user_task_timeout_ms = 3600000
    timezone = 'UTC',
    query_tag = 'amplitude-pipeline/AMPLITUDE_NORMALISED_UPDATE_TASK'
    comment = 'Typed events to the other tables. Owner: data engineering; calls AMPLITUDE_NORMALISED_UPDATE'
    after silver.amplitude_base_update_task
as
call silver.amplitude_normalised_update();
