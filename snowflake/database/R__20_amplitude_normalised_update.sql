{% from "macros/since_last_run.jinja" import new_stream, rows_of -%}
{% set new_events = rows_of(
    "silver.amplitude_events_base1_stream",
    "silver.amplitude_events_base1",
    '"uuid", "event_type", "event_id", "event_time", "session_id", "event_properties", "amplitude_id", "device_id",'
    ~ ' "platform", "library", "server_upload_time", "ip_address", "country", "region", "city",'
    ~ ' loaded_at, source_file, source_row'
) %}
-- New typed events to the tables of the first design. One row per event, session, person, device, address: what the
-- batch touches is counted again from all its events, so a late event, a repeat or a second run ends the same.
create or replace procedure silver.amplitude_normalised_update()
copy grants
returns varchar
language sql
comment = 'Stream of BASE1 to the other tables. Owner: data engineering; called by AMPLITUDE_NORMALISED_UPDATE_TASK'
execute as owner
as
$$
declare
    v_started timestamp_ntz(9) default sysdate();
    v_read number(38, 0) default 0;
    v_stored number(38, 0) default 0;
    v_problem varchar default '';
    v_whole boolean default false;
begin
    begin transaction;

    {{ new_stream("AMPLITUDE_NORMALISED_UPDATE") | indent(4) }}

    select count(*)
    into :v_read
    from {{ new_events | indent(4) }};

    merge into silver.amplitude_events as target
    using (
        select
            "event_type" as event_type,
            "event_id" as event_id,
            "event_time" as event_time,
            "session_id" as session_id,
            try_to_number(
                regexp_substr("event_properties":"[Amplitude] Page Counter"::varchar, '^-?[0-9]+$'), 38, 0
            ) as page_counter,
            "event_properties":"[Amplitude] Page Title"::varchar as page_title,
            "event_properties":"[Amplitude] Page URL"::varchar as url,
            "uuid" as uuid,
            "amplitude_id" as amplitude_id,
            "device_id" as device_id,
            "platform" as platform,
            "library" as library,
            "server_upload_time" as server_upload_time
        from {{ new_events | indent(8) }}
        qualify row_number() over (
            partition by "uuid" order by loaded_at nulls first, source_file nulls first, source_row nulls first
        ) = 1
    ) as source
        on target.uuid = source.uuid
    when not matched then insert (
        event_type, event_id, event_time, session_id, page_counter, page_title, url, uuid, amplitude_id, device_id,
        platform, library, server_upload_time, processed_at
    ) values (
        source.event_type, source.event_id, source.event_time, source.session_id, source.page_counter,
        source.page_title, source.url, source.uuid, source.amplitude_id, source.device_id, source.platform,
        source.library, source.server_upload_time, :v_started
    );
    v_stored := sqlrowcount;

    -- Two people may start a session in the same millisecond; -1 is no session (known fault B07).
    merge into silver.amplitude_session as target
    using (
        with touched as (
            select distinct
                "amplitude_id" as user_id,
                "session_id" as session_id
            from {{ new_events | indent(12) }}
            where "amplitude_id" is not null and "session_id" >= 0
        ),

        numbered as (
            select
                touched.user_id,
                touched.session_id,
                events.device_id,
                events.event_time,
                events.event_type,
                row_number() over (
                    partition by touched.user_id, touched.session_id
                    order by events.event_time nulls last, events.uuid
                ) as position
            from touched
            inner join silver.amplitude_events as events
                on touched.user_id = events.amplitude_id and touched.session_id = events.session_id
        )

        select
            user_id,
            session_id,
            max(iff(position = 1, device_id, null)) as device_id,
            min(event_time) as session_start,
            max(event_time) as session_end,
            count(*) as events,
            count_if(event_type = '[Amplitude] Page Viewed') as pages
        from numbered
        group by user_id, session_id
    ) as source
        on target.user_id = source.user_id and target.session_id = source.session_id
    when matched and (
        target.device_id is distinct from source.device_id
        or target.session_start is distinct from source.session_start
        or target.session_end is distinct from source.session_end
        or target.events != source.events
        or target.pages != source.pages
    ) then update set
        device_id = source.device_id,
        session_start = source.session_start,
        session_end = source.session_end,
        events = source.events,
        pages = source.pages
    when not matched then insert (user_id, session_id, device_id, session_start, session_end, events, pages)
        values (
            source.user_id, source.session_id, source.device_id, source.session_start, source.session_end,
            source.events, source.pages
        );
    v_stored := v_stored + sqlrowcount;

    -- The newest e-mail by event time, not the last by the alphabet; never back to null.
    merge into silver.amplitude_users as target
    using (
        with touched as (
            select distinct "amplitude_id" as user_id
            from {{ new_events | indent(12) }}
            where "amplitude_id" is not null
        ),

        numbered as (
            select
                touched.user_id,
                nullif(base1."user_id", '') as email,
                base1."event_time" as event_time,
                row_number() over (
                    partition by touched.user_id
                    order by
                        iff(nullif(base1."user_id", '') is null, 1, 0) asc,
                        base1."event_time" desc nulls last,
                        base1."uuid" asc
                ) as position
            from touched
            inner join silver.amplitude_events_base1 as base1
                on touched.user_id = base1."amplitude_id"
        )

        select
            user_id,
            max(iff(position = 1, email, null)) as email,
            min(event_time) as first_seen,
            max(event_time) as last_seen
        from numbered
        group by user_id
    ) as source
        on target.user_id = source.user_id
    when matched and (
        target.email is distinct from coalesce(source.email, target.email)
        or target.first_seen is distinct from source.first_seen
        or target.last_seen is distinct from source.last_seen
    ) then update set
        email = coalesce(source.email, target.email),
        first_seen = source.first_seen,
        last_seen = source.last_seen
    when not matched then insert (email, user_id, first_seen, last_seen)
        values (source.email, source.user_id, source.first_seen, source.last_seen);
    v_stored := v_stored + sqlrowcount;

    merge into silver.amplitude_devices as target
    using (
        with touched as (
            select distinct
                "amplitude_id" as user_id,
                "device_id" as device_id
            from {{ new_events | indent(12) }}
            where "amplitude_id" is not null and "device_id" is not null
        ),

        numbered as (
            select
                touched.user_id,
                touched.device_id,
                base1."device_type" as device_type,
                base1."device_family" as device_family,
                base1."os_name" as os_name,
                base1."os_version" as os_version,
                base1."language" as language,
                base1."event_time" as event_time,
                row_number() over (
                    partition by touched.user_id, touched.device_id
                    order by base1."event_time" desc nulls last, base1."uuid" asc
                ) as position
            from touched
            inner join silver.amplitude_events_base1 as base1
                on touched.user_id = base1."amplitude_id" and touched.device_id = base1."device_id"
        )

        select
            user_id,
            device_id,
            max(iff(position = 1, device_type, null)) as device_type,
            max(iff(position = 1, device_family, null)) as device_family,
            max(iff(position = 1, os_name, null)) as os_name,
            max(iff(position = 1, os_version, null)) as os_version,
            max(iff(position = 1, language, null)) as language,
            min(event_time) as first_seen,
            max(event_time) as last_seen
        from numbered
        group by user_id, device_id
    ) as source
        on target.user_id = source.user_id and target.device_id = source.device_id
    when matched and (
        target.first_seen is distinct from source.first_seen
        or target.last_seen is distinct from source.last_seen
        or target.device_type is distinct from source.device_type
        or target.device_family is distinct from source.device_family
        or target.os_name is distinct from source.os_name
        or target.os_version is distinct from source.os_version
        or target.language is distinct from source.language
    ) then update set
        device_type = source.device_type,
        device_family = source.device_family,
        os_name = source.os_name,
        os_version = source.os_version,
        language = source.language,
        first_seen = source.first_seen,
        last_seen = source.last_seen
    when not matched then insert (
        user_id, device_id, device_type, device_family, os_name, os_version, language, first_seen, last_seen
    ) values (
        source.user_id, source.device_id, source.device_type, source.device_family, source.os_name,
        source.os_version, source.language, source.first_seen, source.last_seen
    );
    v_stored := v_stored + sqlrowcount;

    merge into sensitive.amplitude_locations as target
    using (
        with touched as (
            select distinct
                "amplitude_id" as user_id,
                coalesce("ip_address", '') as ip_address
            from {{ new_events | indent(12) }}
            where "amplitude_id" is not null and coalesce("ip_address", "country", "region", "city") is not null
        ),

        numbered as (
            select
                touched.user_id,
                touched.ip_address,
                base1."country" as country,
                base1."region" as region,
                base1."city" as city,
                base1."location_lat" as location_lat,
                base1."location_lng" as location_lng,
                base1."event_time" as event_time,
                row_number() over (
                    partition by touched.user_id, touched.ip_address
                    order by base1."event_time" desc nulls last, base1."uuid" asc
                ) as position
            from touched
            inner join silver.amplitude_events_base1 as base1
                on touched.user_id = base1."amplitude_id" and touched.ip_address = coalesce(base1."ip_address", '')
            where coalesce(base1."ip_address", base1."country", base1."region", base1."city") is not null
        )

        select
            user_id,
            ip_address,
            max(iff(position = 1, country, null)) as country,
            max(iff(position = 1, region, null)) as region,
            max(iff(position = 1, city, null)) as city,
            max(iff(position = 1, location_lat, null)) as location_lat,
            max(iff(position = 1, location_lng, null)) as location_lng,
            min(event_time) as first_seen,
            max(event_time) as last_seen
        from numbered
        group by user_id, ip_address
    ) as source
        on target.user_id = source.user_id and target.ip_address = source.ip_address
    when matched and (
        target.first_seen is distinct from source.first_seen
        or target.last_seen is distinct from source.last_seen
        or target.country is distinct from source.country
        or target.region is distinct from source.region
        or target.city is distinct from source.city
        or target.location_lat is distinct from source.location_lat
        or target.location_lng is distinct from source.location_lng
    ) then update set
        country = source.country,
        region = source.region,
        city = source.city,
        location_lat = source.location_lat,
        location_lng = source.location_lng,
        first_seen = source.first_seen,
        last_seen = source.last_seen
    when not matched then insert (
        user_id, ip_address, country, region, city, location_lat, location_lng, first_seen, last_seen
    ) values (
        source.user_id, source.ip_address, source.country, source.region, source.city, source.location_lat,
        source.location_lng, source.first_seen, source.last_seen
    );
    v_stored := v_stored + sqlrowcount;

    insert into ops.silver_audit (procedure_name, started_at, finished_at, status, rows_read, rows_stored)
    values ('AMPLITUDE_NORMALISED_UPDATE', :v_started, sysdate(), 'ok', :v_read, :v_stored);

    commit;
    return 'NORMALISED TABLES UPDATED: ' || v_stored || ' rows from ' || v_read || ' events';
exception
    when other then
        -- Code and state only: the text of an error may quote a value of an event.
        v_problem := sqlcode || ' ' || sqlstate;
        rollback;
        insert into ops.silver_audit (procedure_name, started_at, finished_at, status, problem)
        values ('AMPLITUDE_NORMALISED_UPDATE', :v_started, sysdate(), 'failed', :v_problem);
        raise;
end;
$$;
