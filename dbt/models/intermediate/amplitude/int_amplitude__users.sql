-- One row per person: the newest user_id that they were known by, and when they were seen. Personal data.
{{
    config(
        materialized='incremental',
        incremental_strategy='merge',
        unique_key='amplitude_id',
        on_schema_change='fail',
        schema='sensitive',
    )
}}
{%- set loaded_from = loaded_since() %}

with

loaded_events as (

    select
        amplitude_id,
        nullif(user_id, '') as user_id,
        iff(coalesce(user_id, '') = '', null, event_time) as user_id_seen_at,
        event_time as first_seen_at,
        event_time as last_seen_at,
        loaded_at
    from {{ ref('stg_amplitude__events') }}
    where
        amplitude_id is not null
        {%- if loaded_from %}
        and loaded_at >= {{ loaded_from }}
        {%- endif %}

),

{% if is_incremental() -%}
-- what is known already enters as one more observation: every aggregate below is the same however often it sees a row
known_users as (

    select * from {{ this }}
    where amplitude_id in (select loaded_events.amplitude_id from loaded_events)

),
{%- endif %}

observations as (

    select * from loaded_events
    {%- if is_incremental() %}
    union all
    select
        amplitude_id,
        user_id,
        user_id_seen_at,
        first_seen_at,
        last_seen_at,
        loaded_at
    from known_users
    {%- endif %}

),

newest_user_ids as (

    select
        amplitude_id,
        user_id,
        user_id_seen_at
    from observations
    where user_id is not null
    qualify row_number() over (
        partition by amplitude_id order by user_id_seen_at desc nulls last, user_id desc
    ) = 1

),

aggregated as (

    select
        amplitude_id,
        min(first_seen_at) as first_seen_at,
        max(last_seen_at) as last_seen_at,
        max(loaded_at) as loaded_at
    from observations
    group by amplitude_id

),

final as (

    select
        aggregated.amplitude_id,
        newest_user_ids.user_id,
        newest_user_ids.user_id_seen_at,
        iff(regexp_like(newest_user_ids.user_id, '[^@ ]+@[^@ ]+[.][^@ ]+'), newest_user_ids.user_id, null) as email,
        newest_user_ids.user_id is not null as is_identified,
        aggregated.first_seen_at,
        aggregated.last_seen_at,
        aggregated.loaded_at
    from aggregated
    left join newest_user_ids on aggregated.amplitude_id = newest_user_ids.amplitude_id

)

select * from final
{%- if is_incremental() %}
-- a person of whom nothing new is known is not written again
except
select * from known_users
{%- endif %}
