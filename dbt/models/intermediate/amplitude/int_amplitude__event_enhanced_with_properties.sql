-- One row per staged row: the event without its personal data, and its known event properties as columns.
{{ config(materialized='ephemeral') }}

with

staged_events as (

    select * from {{ ref('stg_amplitude__events') }}

),

enhanced as (

    select
        uuid,
        insert_id,
        amplitude_id,
        device_id,
        session_id,
        -- session_id is only a start time in ms, so two people can share one; -1 is no session (known fault B07)
        iff(session_id >= 0, amplitude_id::varchar || '-' || session_id::varchar, null) as session_key,
        event_id,
        event_type,
        event_time,
        server_upload_time,
        app,
        platform,
        library,
        os_name as browser,
        {{ whole_number('os_version') }} as browser_version,
        device_family as operating_system,
        device_type,
        language,

        -- page
        {{ whole_number('event_properties:"[Amplitude] Page Counter"') }} as page_counter,
        event_properties:"[Amplitude] Page Domain"::varchar as page_domain,
        event_properties:"[Amplitude] Page Location"::varchar as page_location,
        event_properties:"[Amplitude] Page Path"::varchar as page_path,
        event_properties:"[Amplitude] Page Title"::varchar as page_title,
        event_properties:"[Amplitude] Page URL"::varchar as page_url,
        nullif(event_properties:"referring_domain"::varchar, 'EMPTY') as referring_domain,
        nullif(event_properties:"utm_source"::varchar, 'EMPTY') as utm_source,

        -- click; text and link can hold an e-mail address or a name, so they only enter the key
        event_properties:"[Amplitude] Element Tag"::varchar as element_tag,
        event_properties:"[Amplitude] Element ID"::varchar as element_id,
        trim(regexp_replace(event_properties:"[Amplitude] Element Class"::varchar, '\\s+', ' ')) as element_class,
        event_properties:"[Amplitude] Element Parent Label"::varchar as element_parent_label,
        try_to_double(event_properties:"[Amplitude] Element Position Left"::varchar) as element_left,
        try_to_double(event_properties:"[Amplitude] Element Position Top"::varchar) as element_top,
        iff(
            event_type = '[Amplitude] Element Clicked',
            md5(
                concat_ws(
                    '|',
                    coalesce(element_tag, ''),
                    coalesce(element_id, ''),
                    coalesce(element_class, ''),
                    coalesce(event_properties:"[Amplitude] Element Href"::varchar, ''),
                    coalesce(event_properties:"[Amplitude] Element Text"::varchar, '')
                )
            ),
            null
        ) as element_key,

        -- video
        event_properties:"video_url"::varchar as video_url,

        event_properties,
        loaded_at,
        source_file,
        source_row

    from staged_events

)

select * from enhanced
