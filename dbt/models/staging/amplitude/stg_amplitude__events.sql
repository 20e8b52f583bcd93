-- One row per row of the landing table: all 55 keys of an exported event, cast once, and where the row came from.
with

source as (

    select * from {{ source('RAW_AMPLITUDE', 'AMPLITUDE_EVENTS_RAW_PYTHON') }}

),

renamed as (

    select
        -- ids
        json_data:"uuid"::varchar as uuid,
        json_data:"$insert_id"::varchar as insert_id,
        json_data:"$insert_key"::varchar as insert_key,
        {{ whole_number('json_data:"amplitude_id"') }} as amplitude_id,
        json_data:"user_id"::varchar as user_id,
        json_data:"device_id"::varchar as device_id,
        {{ whole_number('json_data:"session_id"') }} as session_id,
        {{ whole_number('json_data:"event_id"') }} as event_id,
        {{ whole_number('json_data:"app"') }} as app,
        json_data:"source_id"::varchar as source_id,
        json_data:"partner_id"::varchar as partner_id,
        json_data:"adid"::varchar as adid,
        json_data:"idfa"::varchar as idfa,

        -- event
        json_data:"event_type"::varchar as event_type,
        json_data:"amplitude_event_type"::varchar as amplitude_event_type,
        json_data:"data_type"::varchar as data_type,
        try_to_boolean(json_data:"is_attribution_event"::varchar) as is_attribution_event,
        try_to_boolean(json_data:"paying"::varchar) as paying,
        try_to_double(json_data:"sample_rate"::varchar) as sample_rate,

        -- times, UTC
        {{ utc_timestamp('json_data:"event_time"') }} as event_time,
        {{ utc_timestamp('json_data:"client_event_time"') }} as client_event_time,
        {{ utc_timestamp('json_data:"client_upload_time"') }} as client_upload_time,
        {{ utc_timestamp('json_data:"server_received_time"') }} as server_received_time,
        {{ utc_timestamp('json_data:"server_upload_time"') }} as server_upload_time,
        {{ utc_timestamp('json_data:"processed_time"') }} as processed_time,
        {{ utc_timestamp('json_data:"user_creation_time"') }} as user_creation_time,

        -- device: for websites os_name holds the browser, device_family the operating system
        json_data:"platform"::varchar as platform,
        json_data:"os_name"::varchar as os_name,
        json_data:"os_version"::varchar as os_version,
        json_data:"device_type"::varchar as device_type,
        json_data:"device_family"::varchar as device_family,
        json_data:"device_brand"::varchar as device_brand,
        json_data:"device_manufacturer"::varchar as device_manufacturer,
        json_data:"device_model"::varchar as device_model,
        json_data:"device_carrier"::varchar as device_carrier,
        json_data:"language"::varchar as language,

        -- software
        json_data:"library"::varchar as library,
        json_data:"version_name"::varchar as version_name,
        json_data:"start_version"::varchar as start_version,
        {{ whole_number('json_data:"$schema"') }} as schema_version,

        -- place (personal data: only here and in schema SENSITIVE)
        json_data:"ip_address"::varchar as ip_address,
        json_data:"country"::varchar as country,
        json_data:"region"::varchar as region,
        json_data:"city"::varchar as city,
        json_data:"dma"::varchar as dma,
        try_to_double(json_data:"location_lat"::varchar) as location_lat,
        try_to_double(json_data:"location_lng"::varchar) as location_lng,

        -- objects
        as_object(json_data:"event_properties") as event_properties,
        as_object(json_data:"user_properties") as user_properties,
        as_object(json_data:"global_user_properties") as global_user_properties,
        as_object(json_data:"group_properties") as group_properties,
        as_object(json_data:"groups") as groups,
        as_object(json_data:"data") as data,
        as_object(json_data:"plan") as plan,
        json_data:"amplitude_attribution_ids"::varchar as amplitude_attribution_ids,

        -- load
        loaded_at,
        source_file,
        source_row

    from source

)

select * from renamed
