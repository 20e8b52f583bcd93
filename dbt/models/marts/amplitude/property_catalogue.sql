-- One row per event type, property and kind of value: how common it is, first and last seen. Drift made visible.
with

usage as (

    select * from {{ ref('int_amplitude__property_usage') }}

),

event_types as (

    select
        event_type,
        sum(events) as event_type_events
    from usage
    where property is null
    group by event_type

),

properties as (

    select
        event_type,
        property,
        value_kind,
        sum(events) as events,
        min(first_seen_at) as first_seen_at,
        max(last_seen_at) as last_seen_at
    from usage
    where property is not null
    group by event_type, property, value_kind

),

final as (

    select
        md5(
            concat_ws('|', properties.event_type, properties.property, properties.value_kind)
        ) as property_key,
        properties.event_type,
        properties.property,
        properties.value_kind,
        properties.events::number(38, 0) as events,
        event_types.event_type_events::number(38, 0) as event_type_events,
        (properties.events / event_types.event_type_events)::float as share,
        properties.first_seen_at,
        properties.last_seen_at
    from properties
    inner join event_types on properties.event_type = event_types.event_type

)

select * from final
