-- Role: {{ account_role }} (CREATE INTEGRATION on the account).
-- Never replaced: CREATE OR REPLACE would cut every stage from it. Our own external id keeps the trust policy of
-- the AWS role valid even if the integration must be made again (docs/aws/README.md gives the two-step order).
-- (noqa: the linter does not know STORAGE_AWS_EXTERNAL_ID.)
create storage integration if not exists {{ database }}_s3
    type = external_stage
    storage_provider = 'S3'
    enabled = true
    storage_aws_role_arn = '{{ aws_role_arn }}'
    storage_allowed_locations = ('s3://{{ bucket }}/{{ prefix }}/')
    comment = 'Reads the parts prefix of the bucket. Owner: data engineering; used by the stage of {{ database }}'
    storage_aws_external_id = '{{ aws_external_id }}'; -- noqa: PRS

alter storage integration {{ database }}_s3 set
    enabled = true
    storage_aws_role_arn = '{{ aws_role_arn }}'
    storage_allowed_locations = ('s3://{{ bucket }}/{{ prefix }}/')
    storage_aws_external_id = '{{ aws_external_id }}'; -- noqa: PRS
