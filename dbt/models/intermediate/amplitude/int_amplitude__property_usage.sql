-- One row per day of arrival, event type, property and kind of value: how many events had it. The row without a
-- property counts all events of the type.
{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key='server_upload_date',
        on_schema_change='append_new_columns',
    )
}}
{%- set processed_from = processed_since() %}
{%- set upload_date = "coalesce(server_upload_time::date, '1970-01-01'::date)" %}
{%- set first_date = oldest_since(processed_from, ref('int_amplitude__events'), upload_date) %}

with

events as (

    select
        coalesce(event_type, '') as event_type,
        {{ upload_date }} as server_upload_date,
        server_upload_time,
        event_properties,
        processed_at
    from {{ ref('int_amplitude__events') }}
    {%- if first_date %}
    where server_upload_time >= '{{ first_date }}'::timestamp_ntz
    {%- endif %}

),

{% if processed_from -%}
touched_dates as (

    select distinct server_upload_date from events
    where processed_at > {{ processed_from }}

),

date_events as (

    select events.*
    from events
    inner join touched_dates on events.server_upload_date = touched_dates.server_upload_date

),
{%- else -%}
date_events as (

    select * from events

),
{%- endif %}

totals as (

    select
        server_upload_date,
        event_type,
        null::varchar as property,
        null::varchar as value_kind,
        count(*) as events,
        min(server_upload_time) as first_seen_at,
        max(server_upload_time) as last_seen_at,
        max(processed_at) as processed_at
    from date_events
    group by server_upload_date, event_type

),

properties as (

    select
        date_events.server_upload_date,
        date_events.event_type,
        property.key::varchar as property,
        case typeof(property.value)
            when 'INTEGER' then 'number'
            when 'DECIMAL' then 'number'
            when 'DOUBLE' then 'number'
            when 'VARCHAR' then 'text'
            when 'NULL_VALUE' then 'null'
            else lower(typeof(property.value))
        end as value_kind,
        count(*) as events,
        min(date_events.server_upload_time) as first_seen_at,
        max(date_events.server_upload_time) as last_seen_at,
        max(date_events.processed_at) as processed_at
    from date_events, lateral flatten(input => date_events.event_properties) as property
    group by date_events.server_upload_date, date_events.event_type, property.key::varchar, value_kind

),

final as (

    select * from totals
    union all
    select * from properties

)

select * from final
