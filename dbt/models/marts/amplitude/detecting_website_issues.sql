-- One row per event: is it a sign that a visitor was stuck? Events outside a session stand alone and have no sign.
{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key='issue_key',
        on_schema_change='append_new_columns',
    )
}}
{%- set sessions_from = processed_since("session_key is not null") %}
{%- set outside_from = processed_since("session_key is null") %}

with

session_events as (

    select * from {{ ref('int_amplitude__session_events') }}
    {%- if sessions_from %}
    where processed_at > {{ sessions_from }}
    {%- endif %}

),

sessions as (

    select
        session_key,
        is_suspected_bot,
        processed_at
    from {{ ref('int_amplitude__session') }}

),

placed as (

    select
        *,
        lag(is_click) over (partition by session_key order by step_order) as follows_click,
        lag(event_time) over (partition by session_key order by step_order) as previous_time,
        lag(page_title) over (partition by session_key order by step_order) as previous_title
    from session_events

),

events as (

    select
        placed.*,
        sessions.is_suspected_bot,
        -- a view that a click caused is older than the click before it, and has the title of the page before
        iff(
            placed.follows_click and placed.previous_time > placed.event_time,
            nullif(placed.previous_title, placed.page_title),
            placed.page_title
        ) as own_title
    from placed
    inner join sessions
        on
            placed.session_key = sessions.session_key
            -- a session that is a build behind its events waits for the next build
            and placed.processed_at = sessions.processed_at

),

-- the original's rule: the same event_id as the event before, at another time
compared as (

    select
        session_key,
        event_id,
        event_time,
        lag(event_time) over (partition by session_key order by event_time, event_id, uuid) as previous_event_time,
        lag(event_id) over (partition by session_key order by event_time, event_id, uuid) as previous_event_id
    from events

),

same_event_ids as (

    select distinct
        session_key,
        event_id
    from compared
    where
        event_time != previous_event_time
        and event_id = previous_event_id

),

-- runs of clicks on one element
clicks as (

    select
        uuid,
        session_key,
        page,
        element_key,
        event_time,
        event_id,
        coalesce(
            datediff(
                'millisecond',
                lag(event_time) over (partition by session_key, page, element_key order by event_time, event_id, uuid),
                event_time
            ) <= {{ var('repeated_click_max_gap_ms') }},
            false
        ) as continues_run
    from events
    where
        is_click
        and element_kind is null
        and not is_suspected_bot

),

click_runs as (

    select
        *,
        count_if(not continues_run) over (
            partition by session_key, page, element_key
            order by event_time, event_id, uuid
            rows between unbounded preceding and current row
        ) as run_number
    from clicks

),

counted_clicks as (

    select
        uuid,
        count(*) over (partition by session_key, page, element_key, run_number) as clicks_in_run
    from click_runs

),

views as (

    select
        uuid,
        session_key,
        page,
        step_order
    from events
    where
        is_page_view
        and not is_suspected_bot

),

known_pages as (

    select
        *,
        lag(page) over (partition by session_key order by step_order) as previous_page
    from views
    where page is not null

),

-- a view right after a view of the same page is a reload: the same visit
visits as (

    select
        uuid,
        page,
        lag(page, 2) over (partition by session_key order by step_order) as page_before_last,
        row_number() over (partition by session_key, page order by step_order) - 1 as returns
    from known_pages
    where
        previous_page is null
        or page != previous_page

),

last_views as (

    select
        uuid,
        session_key,
        step_order
    from views
    qualify row_number() over (partition by session_key order by step_order desc) = 1

),

last_events as (

    select
        session_key,
        step_order,
        is_click and element_kind is null as is_plain_click
    from events
    where coalesce(event_type, '') not in ('session_end', '[Amplitude] Replay Captured')
    qualify row_number() over (partition by session_key order by step_order desc) = 1

),

signs as (

    select
        events.uuid,
        events.session_key,
        events.amplitude_id,
        events.session_id,
        events.step_order,
        events.event_id,
        events.event_type,
        events.event_time,
        events.page as page_url,
        events.page_title,
        events.element_tag,
        events.element_id,
        events.element_class,
        events.element_key,
        events.element_kind,
        iff(same_event_ids.session_key is null, 'N', 'Y') as repeat_click_flag,
        coalesce(counted_clicks.clicks_in_run, 0) as clicks_in_run,
        coalesce(
            counted_clicks.clicks_in_run >= {{ var('repeated_click_min_clicks') }}, false
        ) as is_repeated_click,
        coalesce(visits.returns, 0) as page_return_number,
        coalesce(visits.returns >= {{ var('page_return_min') }}, false) as is_page_return,
        coalesce(visits.page = visits.page_before_last, false) as is_loop,
        coalesce(events.is_page_view and events.own_title ilike '404%', false) as is_missing_page,
        last_views.uuid is not null
        and (
            is_missing_page
            or coalesce(last_events.is_plain_click and last_events.step_order > last_views.step_order, false)
        ) as is_dead_end,
        events.is_suspected_bot,
        events.processed_at
    from events
    left join same_event_ids
        on
            events.session_key = same_event_ids.session_key
            and events.event_id = same_event_ids.event_id
    left join counted_clicks on events.uuid = counted_clicks.uuid
    left join visits on events.uuid = visits.uuid
    left join last_views on events.uuid = last_views.uuid
    left join last_events on last_views.session_key = last_events.session_key

),

events_outside_sessions as (

    select
        uuid,
        session_key,
        amplitude_id,
        session_id,
        null::number(38, 0) as step_order,
        event_id,
        event_type,
        event_time,
        nullif(split_part(split_part(page_url, '?', 1), '#', 1), '') as page_url,
        page_title,
        element_tag,
        element_id,
        element_class,
        element_key,
        null::varchar as element_kind,
        'N' as repeat_click_flag,
        0 as clicks_in_run,
        false as is_repeated_click,
        0 as page_return_number,
        false as is_page_return,
        false as is_loop,
        false as is_missing_page,
        false as is_dead_end,
        false as is_suspected_bot,
        processed_at
    from {{ ref('int_amplitude__events') }}
    where
        session_key is null
        and not is_insert_id_repeat
        {%- if outside_from %}
        and processed_at > {{ outside_from }}
        {%- endif %}

),

unioned as (

    select * from signs
    union all
    select * from events_outside_sessions

),

final as (

    select
        -- what is replaced together: a session, or an event outside any
        coalesce(session_key, uuid) as issue_key,
        *
    from unioned

)

select * from final
