package engine;

import com.fasterxml.jackson.core.JsonProcessingException;
import io.kestra.core.models.executions.Execution;
import io.kestra.core.models.executions.LogEntry;
import io.kestra.core.models.executions.MetricEntry;
import io.kestra.core.models.executions.TaskRun;
import io.kestra.core.serializers.JacksonMapper;
import java.io.PrintStream;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Consumer;
import org.slf4j.event.Level;

/**
 * The JSON lines that the driver reads: every state change, log line, metric and output of every execution.
 *
 * An event that a command caused carries the command's "request" number; those of child executions carry that of
 * their parent. Executions that the scheduler started have none.
 */
final class Events {
    private final PrintStream out;
    private final Map<String, String> states = new ConcurrentHashMap<>();
    private final Map<String, Object> requests = new ConcurrentHashMap<>();
    private volatile Consumer<Execution> watcher = execution -> { };

    Events(PrintStream out) {
        this.out = out;
    }

    /** Calls the watcher with every state of every execution. */
    void watch(Consumer<Execution> watcher) {
        this.watcher = watcher;
    }

    /** From now on the events of this execution and of its children carry the request. */
    void belongs(String execution, Object request) {
        requests.put(execution, request);
    }

    /** Writes one event; fields without a value are left out. */
    synchronized void emit(String event, Object request, Map<String, ?> fields) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("event", event);
        put(line, "request", request);
        fields.forEach((key, value) -> put(line, key, value));
        try {
            out.println(JacksonMapper.ofJson().writeValueAsString(line));
        } catch (JsonProcessingException e) {
            throw new IllegalStateException("event " + event + " cannot be written as JSON", e);
        }
        out.flush();
    }

    void error(Object request, Throwable error) {
        Throwable root = error;
        while (root.getCause() != null) {
            root = root.getCause();
        }
        String cause = root == error || String.valueOf(error.getMessage()).contains(String.valueOf(root.getMessage()))
            ? "" : " (" + root.getMessage() + ")";
        emit("error", request, Map.of("message", error.getMessage() + cause, "type", error.getClass().getSimpleName()));
    }

    /** Takes each message that the engine sends on its queues. */
    void sent(Object message) {
        switch (message) {
            case Execution execution -> states(execution);
            case LogEntry entry when entry.getExecutionId() != null && entry.getLevel().toInt() >= Level.INFO.toInt() -> log(entry);
            case MetricEntry entry -> metric(entry);
            default -> { }
        }
    }

    private void states(Execution execution) {
        if (execution.getTrigger() != null && execution.getTrigger().getVariables() != null
            && execution.getTrigger().getVariables().get("executionId") instanceof String parent && requests.containsKey(parent)) {
            requests.putIfAbsent(execution.getId(), requests.get(parent));
        }
        for (TaskRun run : execution.getTaskRunList() == null ? List.<TaskRun>of() : execution.getTaskRunList()) {
            if (changed(run.getId(), run.getState().getCurrent().name() + run.attemptNumber())) {
                task(execution, run);
            }
        }
        if (changed(execution.getId(), execution.getState().getCurrent().name())) {
            execution("execution", execution);
        }
        watcher.accept(execution);
    }

    private boolean changed(String id, String state) {
        return !state.equals(states.put(id, state));
    }

    /** Tells an execution's state; at its end also seconds and outputs. */
    void execution(String event, Execution execution) {
        Map<String, Object> fields = fields(execution.getId(), execution.getFlowId(), null);
        fields.put("state", execution.getState().getCurrent());
        if (execution.getState().isTerminated()) {
            fields.put("seconds", execution.getState().getDuration().map(time -> time.toMillis() / 1000.0).orElse(null));
            fields.put("outputs", execution.getOutputs());
        }
        emit(event, requests.get(execution.getId()), fields);
    }

    private void task(Execution execution, TaskRun run) {
        Map<String, Object> fields = fields(execution.getId(), execution.getFlowId(), run.getTaskId());
        fields.put("state", run.getState().getCurrent());
        fields.put("attempt", run.attemptNumber());
        if (run.getState().isTerminated()) {
            fields.put("seconds", run.getState().getDuration().map(time -> time.toMillis() / 1000.0).orElse(null));
            fields.put("outputs", run.getOutputs());
        }
        fields.put("task_run", run.getId());
        emit("task", requests.get(execution.getId()), fields);
    }

    private void log(LogEntry entry) {
        Map<String, Object> fields = fields(entry.getExecutionId(), entry.getFlowId(), entry.getTaskId());
        fields.put("level", entry.getLevel());
        fields.put("message", entry.getMessage());
        fields.put("at", entry.getTimestamp());
        emit("log", requests.get(entry.getExecutionId()), fields);
    }

    private void metric(MetricEntry entry) {
        Map<String, Object> fields = fields(entry.getExecutionId(), entry.getFlowId(), entry.getTaskId());
        fields.put("name", entry.getName());
        fields.put("type", entry.getType());
        fields.put("value", entry.getValue());
        fields.put("tags", entry.getTags());
        emit("metric", requests.get(entry.getExecutionId()), fields);
    }

    private static Map<String, Object> fields(String execution, String flow, String task) {
        Map<String, Object> fields = new LinkedHashMap<>();
        fields.put("execution", execution);
        fields.put("flow", flow);
        fields.put("task", task);
        return fields;
    }

    private static void put(Map<String, Object> line, String key, Object value) {
        if (value != null) {
            line.put(key, value);
        }
    }
}
