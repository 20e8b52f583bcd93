-- One row per device: what it is, whose it is, when it was seen. As its newest event says.
{{
    config(
        materialized='incremental',
        incremental_strategy='merge',
        unique_key='device_id',
        on_schema_change='append_new_columns',
    )
}}
{%- set processed_from = processed_since() %}

with

new_events as (

    select
        device_id,
        amplitude_id,
        platform,
        device_type,
        operating_system,
        browser,
        browser_version,
        language,
        event_time as first_seen_at,
        event_time as last_seen_at,
        uuid as newest_event_uuid,
        processed_at
    from {{ ref('int_amplitude__events') }}
    where
        device_id != ''
        and not is_insert_id_repeat
        {%- if processed_from %}
        and processed_at > {{ processed_from }}
        {%- endif %}

),

-- what is known already enters as one more event: every value below is the same however often it sees a row
observations as (

    select * from new_events
    {%- if is_incremental() %}
    union all
    select
        device_id,
        amplitude_id,
        platform,
        device_type,
        operating_system,
        browser,
        browser_version,
        language,
        first_seen_at,
        last_seen_at,
        newest_event_uuid,
        processed_at
    from {{ this }}
    where device_id in (select new_events.device_id from new_events)
    {%- endif %}

),

final as (

    select
        observations.device_id,
        observations.amplitude_id,
        observations.platform,
        observations.device_type,
        observations.operating_system,
        observations.browser,
        observations.browser_version,
        observations.language,
        min(observations.first_seen_at) over (partition by observations.device_id) as first_seen_at,
        max(observations.last_seen_at) over (partition by observations.device_id) as last_seen_at,
        observations.newest_event_uuid,
        max(observations.processed_at) over (partition by observations.device_id) as processed_at
    from observations
    qualify row_number() over (
        partition by observations.device_id
        order by observations.last_seen_at desc nulls last, observations.newest_event_uuid desc nulls last
    ) = 1

)

select * from final
