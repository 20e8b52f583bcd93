-- One row per person of whom a company is suspected, with the reasoning in words. user_id is the amplitude_id.
with

signals as (

    select * from {{ ref('int_amplitude__company_signals') }}

),

free_mail_domains as (

    select * from {{ ref('free_mail_domains') }}

),

sessions as (

    select * from {{ ref('int_amplitude__session') }}

),

bots as (

    select amplitude_id from sessions
    group by amplitude_id
    having count_if(not is_suspected_bot) = 0

),

people as (

    select
        signals.amplitude_id,
        iff(free_mail_domains.email_domain is null, signals.email_domain, null) as company_domain,
        signals.network_key,
        signals.network_seen_at
    from signals
    left join free_mail_domains on signals.email_domain = free_mail_domains.email_domain
    left join bots on signals.amplitude_id = bots.amplitude_id
    where bots.amplitude_id is null

),

-- a network is taken for an office when several people share it, but not so many, nor of so many companies, that it
-- must be a provider's
networks as (

    select
        network_key,
        count(distinct amplitude_id) as network_people,
        count(distinct iff(company_domain is null, null, amplitude_id)) as people_with_domain,
        max(company_domain) as company_domain,
        min(network_seen_at) as network_seen_at
    from people
    where network_key is not null
    group by network_key
    having
        count(distinct amplitude_id) between {{ var('office_min_people') }} and {{ var('office_max_people') }}
        and count(distinct company_domain) <= 1

),

offices as (

    select
        *,
        row_number() over (order by network_seen_at, network_key) as office_number
    from networks

),

candidates as (

    select
        amplitude_id,
        company_domain as suspected_company,
        'E-mail address at ' || company_domain || ', which is no free-mail provider' as reasoning,
        'high' as confidence,
        1 as preference,
        0 as network_people,
        '' as network_key
    from people
    where company_domain is not null

    union all

    select
        people.amplitude_id,
        offices.company_domain as suspected_company,
        'Shares a network with ' || (offices.network_people - 1)::varchar || ' other people, of whom '
        || offices.people_with_domain::varchar || ' have an e-mail address at ' || offices.company_domain as reasoning,
        'medium' as confidence,
        2 as preference,
        offices.network_people,
        offices.network_key
    from people
    inner join offices on people.network_key = offices.network_key
    where offices.company_domain is not null

    union all

    select
        people.amplitude_id,
        'Unknown, office network ' || offices.office_number::varchar as suspected_company,
        'Shares a network with ' || (offices.network_people - 1)::varchar
        || ' other people, none of whom has a company e-mail address' as reasoning,
        'low' as confidence,
        3 as preference,
        offices.network_people,
        offices.network_key
    from people
    inner join offices on people.network_key = offices.network_key
    where offices.company_domain is null

),

final as (

    select
        amplitude_id as user_id,
        suspected_company,
        reasoning,
        confidence
    from candidates
    -- the best reason of each person; of equal ones the network that more people share
    qualify row_number() over (
        partition by amplitude_id order by preference asc, network_people desc, network_key asc
    ) = 1

)

select * from final
