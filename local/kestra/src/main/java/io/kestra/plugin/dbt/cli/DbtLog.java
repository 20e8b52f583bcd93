package io.kestra.plugin.dbt.cli;

import com.fasterxml.jackson.core.JsonProcessingException;
import io.kestra.core.models.executions.metrics.Counter;
import io.kestra.core.models.tasks.runners.AbstractLogConsumer;
import io.kestra.core.models.tasks.runners.PluginUtilsService;
import io.kestra.core.runners.RunContext;
import io.kestra.core.serializers.JacksonMapper;
import java.time.Instant;
import java.util.Map;
import org.slf4j.event.Level;

/** Logs dbt's JSON lines at their own level, counts dbt's results as metrics, remembers whether dbt warned. */
final class DbtLog extends AbstractLogConsumer {
    private final RunContext runContext;
    private volatile boolean warned;

    DbtLog(RunContext runContext) {
        this.runContext = runContext;
    }

    boolean warned() {
        return warned;
    }

    @Override
    public void accept(String line, Boolean isStdErr) {
        accept(line, isStdErr, null);
    }

    @Override
    public void accept(String line, Boolean isStdErr, Instant instant) {
        if (line.startsWith("::{") && line.endsWith("}::")) {
            outputs.putAll(PluginUtilsService.parseOut(line, runContext.logger(), runContext, isStdErr, instant));
            return;
        }
        Map<String, Object> entry;
        try {
            entry = JacksonMapper.toMap(line);
        } catch (JsonProcessingException e) {
            runContext.logger().info(line.strip()); // not one of dbt's lines
            return;
        }
        if (entry.get("info") instanceof Map<?, ?> info) {
            log(String.valueOf(info.get("level")), String.valueOf(info.get("msg")));
        }
        if (entry.get("data") instanceof Map<?, ?> data && data.get("stats") instanceof Map<?, ?> stats) {
            stats.forEach((name, count) -> runContext.metric(Counter.of(String.valueOf(name), ((Number) count).doubleValue())));
        }
    }

    private void log(String level, String message) {
        warned |= level.equals("warn");
        runContext.logger().atLevel(switch (level) {
            case "debug" -> Level.DEBUG;
            case "info" -> Level.INFO;
            case "warn" -> Level.WARN;
            default -> Level.ERROR;
        }).log(message);
    }
}
