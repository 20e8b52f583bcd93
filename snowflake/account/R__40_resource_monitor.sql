-- Role: {{ account_role }} (only an account administrator creates resource monitors).
-- It covers the warehouse only: Snowpipe and serverless tasks are billed beside it (docs/aws/README.md, cost).
create resource monitor if not exists {{ warehouse }}_monitor with
    credit_quota = 30
    frequency = monthly
    start_timestamp = immediately
    triggers
        on 80 percent do notify
        on 100 percent do suspend
        on 110 percent do suspend_immediate;

alter warehouse {{ warehouse }} set resource_monitor = {{ warehouse }}_monitor;
