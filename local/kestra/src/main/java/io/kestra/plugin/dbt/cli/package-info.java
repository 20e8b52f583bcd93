/** Stand-in of the task type of Kestra's dbt plugin that our flows use, see {@link io.kestra.plugin.scripts.python}. */
package io.kestra.plugin.dbt.cli;
