-- One row per person, address and place: where they were seen, and when. Personal data.
{{
    config(
        materialized='incremental',
        incremental_strategy='merge',
        unique_key='location_key',
        on_schema_change='fail',
        schema='sensitive',
    )
}}
{%- set loaded_from = loaded_since() %}

with

loaded_events as (

    select
        md5(
            concat_ws(
                '|',
                amplitude_id::varchar,
                coalesce(ip_address, ''),
                coalesce(country, ''),
                coalesce(region, ''),
                coalesce(city, ''),
                coalesce(dma, '')
            )
        ) as location_key,
        amplitude_id,
        {%- for column in ['ip_address', 'country', 'region', 'city', 'dma'] %}
        nullif({{ column }}, '') as {{ column }},
        {%- endfor %}
        event_time as first_seen_at,
        event_time as last_seen_at,
        loaded_at
    from {{ ref('stg_amplitude__events') }}
    where
        amplitude_id is not null
        and coalesce(ip_address, country, region, city, dma) is not null
        {%- if loaded_from %}
        and loaded_at >= {{ loaded_from }}
        {%- endif %}

),

{% if is_incremental() -%}
-- what is known already enters as one more observation: every value below is the same however often it sees a row
known_locations as (

    select * from {{ this }}
    where location_key in (select loaded_events.location_key from loaded_events)

),
{%- endif %}

observations as (

    select * from loaded_events
    {%- if is_incremental() %}
    union all
    select
        location_key,
        amplitude_id,
        ip_address,
        country,
        region,
        city,
        dma,
        first_seen_at,
        last_seen_at,
        loaded_at
    from known_locations
    {%- endif %}

),

final as (

    select
        location_key,
        amplitude_id,
        ip_address,
        country,
        region,
        city,
        dma,
        min(first_seen_at) as first_seen_at,
        max(last_seen_at) as last_seen_at,
        max(loaded_at) as loaded_at
    from observations
    group by location_key, amplitude_id, ip_address, country, region, city, dma

)

select * from final
{%- if is_incremental() %}
-- a place of which nothing new is known is not written again
except
select * from known_locations
{%- endif %}
