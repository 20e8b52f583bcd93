-- One row per session, with its place in the person's history.
with

sessions as (

    select * from {{ ref('int_amplitude__session') }}

),

users as (

    select * from {{ ref('int_amplitude__users') }}

),

numbered as (

    select
        *,
        row_number() over (partition by amplitude_id order by started_at, session_id) as session_number
    from sessions

),

final as (

    select
        numbered.session_key,
        numbered.amplitude_id,
        numbered.session_id,
        numbered.session_number,
        numbered.session_number = 1 as is_first_session,
        coalesce(users.is_identified, false) as is_identified,
        numbered.started_at,
        numbered.ended_at,
        numbered.duration_seconds::float as duration_seconds,
        numbered.events,
        numbered.page_views,
        numbered.clicks,
        numbered.actions,
        numbered.videos_loaded,
        numbered.videos_started,
        numbered.videos_paused,
        numbered.videos_finished,
        numbered.entry_page_url,
        numbered.exit_page_url,
        numbered.referring_domain,
        numbered.browser,
        numbered.browser_version,
        numbered.operating_system,
        numbered.device_type,
        numbered.language,
        numbered.has_session_end,
        numbered.is_bounce,
        numbered.is_suspected_bot
    from numbered
    left join users on numbered.amplitude_id = users.amplitude_id

)

select * from final
