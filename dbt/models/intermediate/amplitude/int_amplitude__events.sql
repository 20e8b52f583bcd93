-- One row per event (uuid). The first load of an event wins and a stored event never changes.
{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        on_schema_change='append_new_columns',
    )
}}
{%- set loaded_from = loaded_since() -%}
{%- set processed_from = processed_since() -%}
{%- set build_start = "'" ~ run_started_at.strftime('%Y-%m-%d %H:%M:%S.%f') ~ "'::timestamp_ntz" -%}

with

loaded_events as (

    select * from {{ ref('int_amplitude__event_enhanced_with_properties') }}
    where
        uuid is not null
        {%- if loaded_from %}
        and loaded_at >= {{ loaded_from }}
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
        {% if processed_from -%}
        -- also when the clock of this machine is behind that of the last build's
        greatest({{ build_start }}, dateadd('microsecond', 1, {{ processed_from }})) as processed_at
        {%- else -%}
        {{ build_start }} as processed_at
        {%- endif %}
    from numbered_events
    {%- if is_incremental() %}
    left join stored_insert_ids
        on
            numbered_events.device_id = stored_insert_ids.device_id
            and numbered_events.insert_id = stored_insert_ids.insert_id
    {%- endif %}

)

select * from final
