"""A local Snowflake for the statements that this product, schemachange and dbt send: README.md."""
