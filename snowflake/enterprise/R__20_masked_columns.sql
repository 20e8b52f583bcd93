-- Role: {{ deploy_role }}. FORCE makes a repeat a no-op. RAW holds whole events, which no column policy can mask: it
-- is closed by grants; so are the dbt models of SENSITIVE, which dbt may replace.
alter table silver.amplitude_events_base1 modify column "ip_address" set masking policy ops.mask_text force;
alter table silver.amplitude_events_base1 modify column "country" set masking policy ops.mask_text force;
alter table silver.amplitude_events_base1 modify column "region" set masking policy ops.mask_text force;
alter table silver.amplitude_events_base1 modify column "city" set masking policy ops.mask_text force;
alter table silver.amplitude_events_base1 modify column "dma" set masking policy ops.mask_text force;
alter table silver.amplitude_events_base1 modify column "location_lat" set masking policy ops.mask_number force;
alter table silver.amplitude_events_base1 modify column "location_lng" set masking policy ops.mask_number force;
alter table silver.amplitude_events_base1 modify column "user_id" set masking policy ops.mask_text force;

alter table silver.amplitude_users modify column email set masking policy ops.mask_text force;

alter table sensitive.amplitude_locations modify column ip_address set masking policy ops.mask_text force;
alter table sensitive.amplitude_locations modify column country set masking policy ops.mask_text force;
alter table sensitive.amplitude_locations modify column region set masking policy ops.mask_text force;
alter table sensitive.amplitude_locations modify column city set masking policy ops.mask_text force;
alter table sensitive.amplitude_locations modify column location_lat set masking policy ops.mask_number force;
alter table sensitive.amplitude_locations modify column location_lng set masking policy ops.mask_number force;
