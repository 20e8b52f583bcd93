-- One row per event of a session, in the order in which the visitor saw it. Repeats of one delivery are left out.
{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key='session_key',
        on_schema_change='append_new_columns',
    )
}}
{%- set processed_from = processed_since() %}
{%- set click = "'[Amplitude] Element Clicked'" %}

with

excluded_elements as (

    select * from {{ ref('excluded_elements') }}

),

all_events as (

    select * from {{ ref('int_amplitude__events') }}
    where
        session_key is not null
        and not is_insert_id_repeat

),

{% if processed_from -%}
-- a session with one new event is built again from all its events, however old they are (known fault B23)
touched_sessions as (

    select distinct
        session_key,
        session_id
    from all_events
    where processed_at > {{ processed_from }}

),

events as (

    select all_events.*
    from all_events
    inner join touched_sessions
        on
            all_events.session_key = touched_sessions.session_key
            -- part of the key, and a time: a warehouse that knows each file's lowest and highest skips older ones
            and all_events.session_id = touched_sessions.session_id

),
{%- else -%}
events as (

    select * from all_events

),
{%- endif %}

ordered as (

    select
        *,
        nullif(split_part(split_part(page_url, '?', 1), '#', 1), '') as page,
        coalesce(event_type = '[Amplitude] Page Viewed', false) as is_view,
        coalesce(event_type = {{ click }}, false) as is_click,
        row_number() over (partition by session_key order by event_time, event_id, uuid) as position
    from events

),

listed_clicks as (

    select
        ordered.uuid,
        min(excluded_elements.kind) as element_kind
    from ordered
    inner join excluded_elements
        on
            case excluded_elements.property
                when 'id' then ordered.element_id
                when 'class' then ordered.element_class
                when 'parent_label' then ordered.element_parent_label
            end ilike excluded_elements.pattern
    where ordered.is_click
    group by ordered.uuid

),

-- two views of one page within milliseconds are one: the site called the history API for the same URL (B09)
views as (

    select
        session_key,
        position,
        event_time,
        page,
        coalesce(
            page = lag(page) over (partition by session_key order by position)
            and datediff(
                'millisecond', lag(event_time) over (partition by session_key order by position), event_time
            ) <= {{ var('ghost_view_max_ms') }},
            false
        ) as is_ghost_view
    from ordered
    where is_view

),

pages as (

    select
        session_key,
        position,
        event_time,
        page,
        row_number() over (partition by session_key order by position) as view_number,
        lag(page) over (partition by session_key order by position) as previous_page
    from views
    where not is_ghost_view

),

counted as (

    select
        ordered.*,
        coalesce(views.is_ghost_view, false) as is_ghost_view,
        ordered.is_view and not coalesce(views.is_ghost_view, false) as is_page_view,
        case
            when listed_clicks.element_kind is not null then listed_clicks.element_kind
            -- the site's consent banner: its button stands at 0/0 and has no parent label
            when
                ordered.is_click
                and ordered.element_parent_label is null
                and ordered.element_left = 0
                and ordered.element_top = 0
                then 'consent'
        end as element_kind,
        count_if(ordered.is_view and not views.is_ghost_view) over (
            partition by ordered.session_key
            order by ordered.position
            rows between unbounded preceding and current row
        ) as views_so_far
    from ordered
    left join views
        on
            ordered.session_key = views.session_key
            and ordered.position = views.position
    left join listed_clicks on ordered.uuid = listed_clicks.uuid

),

-- on a single-page site the view is recorded up to 68 ms before the click that caused it; that click still has
-- the URL of the page before
placed as (

    select
        counted.*,
        coalesce(
            counted.is_click
            and datediff('millisecond', pages.event_time, counted.event_time) <= {{ var('click_after_view_max_ms') }}
            and counted.page != pages.page
            and (pages.previous_page is null or counted.page = pages.previous_page),
            false
        ) as is_cause_of_view,
        pages.position as view_position
    from counted
    left join pages
        on
            counted.session_key = pages.session_key
            and counted.views_so_far = pages.view_number

),

final as (

    select
        uuid,
        session_key,
        amplitude_id,
        session_id,
        device_id,
        event_id,
        event_type,
        event_time,
        server_upload_time,
        library,
        browser,
        browser_version,
        operating_system,
        device_type,
        language,
        page_counter,
        page_title,
        page,
        referring_domain,
        utm_source,
        element_tag,
        element_id,
        element_class,
        element_key,
        element_kind,
        video_url,
        is_click,
        is_ghost_view,
        is_page_view,
        not is_view
        and coalesce(element_kind, '') != 'consent'
        and coalesce(event_type, '') not in (
            'session_start', 'session_end', 'video_loaded', '[Amplitude] Replay Captured',
            -- what the browser's SDK records by itself when a site turns it on
            '[Amplitude] Network Request', '[Amplitude] Web Vitals'
        ) as is_action,
        row_number() over (
            partition by session_key
            order by iff(is_cause_of_view, view_position, position), iff(is_cause_of_view, 0, 1), position
        ) as step_order,
        max(processed_at) over (partition by session_key) as processed_at
    from placed

)

select * from final
