-- One row per step of a visitor's session: what they did, and on which page they were at that moment.
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

session_events as (

    select * from {{ ref('int_amplitude__session_events') }}
    {%- if processed_from %}
    where processed_at > {{ processed_from }}
    {%- endif %}

),

steps as (

    select
        *,
        row_number() over (partition by session_key order by step_order) as step_number
    from session_events
    where not is_ghost_view

),

propagated as (

    select
        uuid,
        session_key,
        amplitude_id,
        session_id,
        step_number,
        event_id,
        event_type,
        event_time,
        last_value(page_counter) ignore nulls over (
            partition by session_key order by step_number rows between unbounded preceding and current row
        ) as page_counter,
        last_value(page_title) ignore nulls over (
            partition by session_key order by step_number rows between unbounded preceding and current row
        ) as page_title,
        last_value(page) ignore nulls over (
            partition by session_key order by step_number rows between unbounded preceding and current row
        ) as page_url,
        is_page_view,
        count_if(is_page_view) over (
            partition by session_key order by step_number rows between unbounded preceding and current row
        ) as path_position,
        count_if(is_page_view) over (partition by session_key) as path_depth,
        -- a view placed after the click that caused it can be some milliseconds older than the click
        greatest(
            datediff('millisecond', lag(event_time) over (partition by session_key order by step_number), event_time), 0
        )::float / 1000 as seconds_since_previous_step,
        processed_at
    from steps

),

final as (

    select
        uuid,
        session_key,
        amplitude_id,
        session_id,
        step_number,
        event_id,
        event_type,
        event_time,
        page_counter,
        page_title,
        page_url,
        is_page_view,
        path_position,
        path_depth,
        is_page_view and path_position = 1 as is_entry,
        is_page_view and path_position = path_depth as is_exit,
        seconds_since_previous_step,
        processed_at
    from propagated

)

select * from final
