-- One row per event (uuid). The first load of an event wins and a stored event never changes.
{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        on_schema_change='append_new_columns',
    )
}}
{%- set loaded_from = loaded_since() %}
{%- set processed_from = processed_since() %}

with

loaded_events as (

    select * from {{ ref('int_amplitude__event_enhanced_with_properties') }}
    where uuid is not null {%- if loaded_from %} and loaded_at >= {{ loaded_from }} {%- endif %}

),

first_loads as (

    select * from loaded_events
    qualify row_number() over (
        partition by uuid order by loaded_at nulls first, source_file nulls first, source_row nulls first
    ) = 1

),

{% if is_incremental() -%}
-- a re-export of an event lies in the hour of the first one, so only these days can hold it
arrival_dates as (

    select distinct coalesce(server_upload_time::date, '1970-01-01'::date) as arrival_date from loaded_events

),

stored_events as (

    select stored.uuid
    from {{ this }} as stored
    inner join arrival_dates
        on coalesce(stored.server_upload_time::date, '1970-01-01'::date) = arrival_dates.arrival_date

),

stored_deliveries as (

    select distinct
        stored.device_id,
        stored.insert_id
    from {{ this }} as stored
    inner join first_loads
        on
            stored.device_id = first_loads.device_id
            and stored.insert_id = first_loads.insert_id

),

new_events as (

    select
        first_loads.*,
        stored_deliveries.insert_id is not null as was_delivered
    from first_loads
    left join stored_events on first_loads.uuid = stored_events.uuid
    left join stored_deliveries
        on
            first_loads.device_id = stored_deliveries.device_id
            and first_loads.insert_id = stored_deliveries.insert_id
    where stored_events.uuid is null

),
{%- else -%}
new_events as (

    select
        *,
        false as was_delivered
    from first_loads

),
{%- endif %}

-- Amplitude drops a repeat of device_id + $insert_id for 7 days only; a later one has another uuid
numbered_events as (

    select
        *,
        row_number() over (
            partition by device_id, insert_id
            order by loaded_at nulls first, source_file nulls first, source_row nulls first
        ) as delivery_number
    from new_events

),

final as (

    select
        * exclude (was_delivered, delivery_number),
        coalesce(device_id, '') != ''
        and coalesce(insert_id, '') != ''
        and (was_delivered or delivery_number > 1) as is_insert_id_repeat,
        {{ build_stamp(processed_from) }} as processed_at
    from numbered_events

)

select * from final
