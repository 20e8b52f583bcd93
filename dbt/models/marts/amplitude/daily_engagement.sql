-- One row per day (of the reporting time zone) on which a session began. Suspected bots are only counted apart.
{%- set zone = env_var('REPORTING_TIMEZONE', '') | replace('unset', '') or 'UTC' %}
with

sessions as (

    select
        *,
        convert_timezone('UTC', '{{ zone }}', started_at)::date as engagement_date,
        events = 1 and has_session_end as is_end_only
    from {{ ref('user_session') }}
    where started_at is not null

),

-- a session older than the first export is known by its end alone: it makes its visitor a returning one, no more
visits as (

    select
        *,
        min(engagement_date) over (partition by amplitude_id) as first_date
    from sessions
    where not is_suspected_bot
    qualify not is_end_only

),

days as (

    select
        engagement_date,
        count_if(is_suspected_bot) as bot_sessions
    from sessions
    where not is_end_only
    group by engagement_date

),

engagement as (

    select
        engagement_date,
        count(distinct amplitude_id) as visitors,
        count(distinct iff(engagement_date = first_date, amplitude_id, null)) as new_visitors,
        count(distinct iff(engagement_date > first_date, amplitude_id, null)) as returning_visitors,
        count(*) as sessions,
        count_if(is_bounce) as bounces,
        sum(page_views) as page_views,
        count_if(videos_loaded > 0) as sessions_video_loaded,
        count_if(videos_started > 0) as sessions_video_started,
        count_if(videos_paused > 0) as sessions_video_paused,
        count_if(videos_finished > 0) as sessions_video_finished
    from visits
    group by engagement_date

),

final as (

    select
        days.engagement_date,
        coalesce(engagement.visitors, 0) as visitors,
        coalesce(engagement.new_visitors, 0) as new_visitors,
        coalesce(engagement.returning_visitors, 0) as returning_visitors,
        coalesce(engagement.sessions, 0) as sessions,
        days.bot_sessions,
        coalesce(engagement.bounces, 0) as bounces,
        (engagement.bounces / engagement.sessions)::float as bounce_rate,
        coalesce(engagement.page_views, 0)::number(38, 0) as page_views,
        (engagement.page_views / engagement.sessions)::float as pages_per_session,
        -- the video funnel: sessions in which the player appeared, was started, paused, watched to the end
        coalesce(engagement.sessions_video_loaded, 0) as sessions_video_loaded,
        coalesce(engagement.sessions_video_started, 0) as sessions_video_started,
        coalesce(engagement.sessions_video_paused, 0) as sessions_video_paused,
        coalesce(engagement.sessions_video_finished, 0) as sessions_video_finished
    from days
    left join engagement on days.engagement_date = engagement.engagement_date

)

select * from final
