-- One row per person and network: the domain of their e-mail address and the network that they came from.
{{ config(materialized='view', schema='sensitive') }}

with

users as (

    select * from {{ ref('int_amplitude__users') }}

),

locations as (

    select * from {{ ref('int_amplitude__locations') }}

),

networks as (

    select
        amplitude_id,
        -- of IPv6 the first 64 bits are the network, the rest is the device (RFC 4291, 2.5.4); what ends in an IPv4
        -- address (2.5.5) is one; zeros at the end of the 64 bits may be written or left out (RFC 5952, 2.2)
        sha2(
            iff(
                contains(ip_address, ':') and not contains(ip_address, '.'),
                regexp_replace(
                    split_part(regexp_substr(lower(ip_address), '^[0-9a-f]*:[0-9a-f]*:[0-9a-f]*:[0-9a-f]*'), '::', 1),
                    '(:0*)+$',
                    ''
                ),
                ip_address
            )
        ) as network_key,
        min(first_seen_at) as network_seen_at
    from locations
    where ip_address is not null
    group by amplitude_id, network_key

),

final as (

    select
        users.amplitude_id,
        lower(split_part(users.email, '@', 2)) as email_domain,
        networks.network_key,
        networks.network_seen_at
    from users
    left join networks on users.amplitude_id = networks.amplitude_id
    where
        users.email is not null
        or networks.network_key is not null

)

select * from final
