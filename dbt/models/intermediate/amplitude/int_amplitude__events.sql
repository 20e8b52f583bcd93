-- One row per event (uuid). The first load of an event wins and a stored event never changes.
{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        on_schema_change='append_new_columns',
    )
}}
{#- A load may commit up to a day after the scan time that it stamped: rows of that time are looked at again. -#}
{%- set loaded_since = high_water('loaded_at', hours_back=24) -%}
{%- set build_start = run_started_at.strftime('%Y-%m-%d %H:%M:%S.%f') -%}

with

loaded_events as (

    select * from {{ ref('int_amplitude__event_enhanced_with_properties') }}
    where
        uuid is not null
        {%- if loaded_since %}
        and loaded_at >= to_timestamp_tz('{{ loaded_since }} +00:00', 'YYYY-MM-DD HH24:MI:SS.FF9 TZH:TZM')
        {%- endif %}

),

first_loads as (

    select * from loaded_events
    qualify row_number() over (
        partition by uuid order by loaded_at nulls first, source_file nulls first, source_row nulls first
    ) = 1

),

{% if is_incremental() -%}
stored_events as (

    select uuid from {{ this }}
    -- a re-export of an event lies in the hour of the first one, so only these days can hold it
    where
        coalesce(server_upload_time::date, '1970-01-01'::date) in (
            select distinct coalesce(server_upload_time::date, '1970-01-01'::date) from loaded_events
        )

),

new_events as (

    select first_loads.*
    from first_loads
    left join stored_events on first_loads.uuid = stored_events.uuid
    where stored_events.uuid is null

),

stored_insert_ids as (

    select distinct
        device_id,
        insert_id
    from {{ this }}
    where insert_id is not null

),
{%- else -%}
new_events as (

    select * from first_loads

),
{%- endif %}

-- Amplitude drops a repeat of device_id + $insert_id for 7 days only; a later one has another uuid
numbered_events as (

    select
        *,
        row_number() over (
            partition by device_id, insert_id
            order by loaded_at nulls first, source_file nulls first, source_row nulls first
        ) as insert_id_number
    from new_events

),

final as (

    select
        numbered_events.* exclude (insert_id_number),
        numbered_events.device_id is not null
        and numbered_events.insert_id is not null
        and (
            numbered_events.insert_id_number > 1
            {%- if is_incremental() %}
            or stored_insert_ids.insert_id is not null
            {%- endif %}
        ) as is_insert_id_repeat,
        -- start of the build; models below take what is newer than their own newest
        '{{ build_start }}'::timestamp_ntz as processed_at
    from numbered_events
    {%- if is_incremental() %}
    left join stored_insert_ids
        on
            numbered_events.device_id = stored_insert_ids.device_id
            and numbered_events.insert_id = stored_insert_ids.insert_id
    {%- endif %}

)

select * from final
