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

events as (

    select * from {{ ref('int_amplitude__events') }}
    where
        device_id != ''
        and not is_insert_id_repeat

),

{% if processed_from -%}
touched_devices as (

    select distinct device_id from events
    where processed_at > {{ processed_from }}

),

device_events as (

    select events.*
    from events
    inner join touched_devices on events.device_id = touched_devices.device_id

),
{%- else -%}
device_events as (

    select * from events

),
{%- endif %}

final as (

    select
        device_id,
        amplitude_id,
        platform,
        device_type,
        operating_system,
        browser,
        browser_version,
        language,
        min(event_time) over (partition by device_id) as first_seen_at,
        max(event_time) over (partition by device_id) as last_seen_at,
        count(*) over (partition by device_id) as events,
        max(processed_at) over (partition by device_id) as processed_at
    from device_events
    qualify row_number() over (partition by device_id order by event_time desc nulls last, uuid desc) = 1

)

select * from final
