-- One row per session (amplitude_id, session_id), aggregated again from all its events whenever one arrives.
{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key='session_key',
        on_schema_change='append_new_columns',
    )
}}
{%- set processed_from = processed_since() %}

with

outdated_browsers as (

    select * from {{ ref('outdated_browsers') }}

),

session_events as (

    select
        *,
        coalesce(event_type = 'session_end', false) as is_session_end
    from {{ ref('int_amplitude__session_events') }}
    {%- if processed_from %}
    where processed_at > {{ processed_from }}
    {%- endif %}

),

paged as (

    select
        *,
        row_number() over (partition by session_key, is_page_view order by step_order) as view_number,
        row_number() over (partition by session_key, is_page_view order by step_order desc) as view_number_from_end,
        row_number() over (partition by session_key, device_id is null order by step_order) as device_number
    from session_events

),

aggregated as (

    select
        session_key,
        min(amplitude_id) as amplitude_id,
        min(session_id) as session_id,
        max(iff(device_id is not null and device_number = 1, device_id, null)) as device_id,
        min(event_time) as started_at,
        max(event_time) as ended_at,
        count(*) as events,
        count_if(is_page_view) as page_views,
        count_if(is_click and coalesce(element_kind, '') != 'consent') as clicks,
        count_if(is_action) as actions,
        count_if(event_type = 'video_loaded') as videos_loaded,
        count_if(event_type = 'video_started') as videos_started,
        count_if(event_type = 'video_paused') as videos_paused,
        count_if(event_type = 'video_finished') as videos_finished,
        max(iff(is_page_view and view_number = 1, page, null)) as entry_page_url,
        max(iff(is_page_view and view_number_from_end = 1, page, null)) as exit_page_url,
        max(iff(is_page_view and view_number = 1, referring_domain, null)) as referring_domain,
        count_if(referring_domain is not null) > 0 as has_referrer,
        -- session_end is sent by the next visit, months later with another version of the browser
        {%- for column in ['browser', 'browser_version', 'operating_system', 'device_type', 'language'] %}
        coalesce(max(iff(is_session_end, null, {{ column }})), max({{ column }})) as {{ column }},
        {%- endfor %}
        count_if(is_session_end) > 0 as has_session_end,
        count_if(not is_session_end) as events_before_end,
        datediff(
            'millisecond',
            min(iff(is_session_end, null, event_time)),
            max(iff(is_session_end, null, event_time))
        ) as milliseconds_before_end,
        max(processed_at) as processed_at
    from paged
    group by session_key

),

final as (

    select
        aggregated.session_key,
        aggregated.amplitude_id,
        aggregated.session_id,
        aggregated.device_id,
        aggregated.started_at,
        aggregated.ended_at,
        datediff('millisecond', aggregated.started_at, aggregated.ended_at) / 1000 as duration_seconds,
        aggregated.events,
        aggregated.page_views,
        aggregated.clicks,
        aggregated.actions,
        aggregated.videos_loaded,
        aggregated.videos_started,
        aggregated.videos_paused,
        aggregated.videos_finished,
        aggregated.entry_page_url,
        aggregated.exit_page_url,
        aggregated.referring_domain,
        aggregated.browser,
        aggregated.browser_version,
        aggregated.operating_system,
        aggregated.device_type,
        aggregated.language,
        aggregated.has_session_end,
        aggregated.page_views <= 1 and aggregated.actions = 0 as is_bounce,
        outdated_browsers.browser is not null
        and not aggregated.has_referrer
        and aggregated.events_before_end <= {{ var('bot_max_events') }}
        and coalesce(aggregated.milliseconds_before_end, 0) <= {{ var('bot_max_ms') }} as is_suspected_bot,
        aggregated.processed_at
    from aggregated
    left join outdated_browsers
        on
            aggregated.browser = outdated_browsers.browser
            and aggregated.browser_version <= outdated_browsers.last_outdated_version

)

select * from final
