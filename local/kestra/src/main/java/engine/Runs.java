package engine;

import io.kestra.core.exceptions.InputOutputValidationException;
import io.kestra.core.models.Label;
import io.kestra.core.models.QueryFilter;
import io.kestra.core.models.executions.Execution;
import io.kestra.core.models.executions.ExecutionKilled;
import io.kestra.core.models.executions.ExecutionKilledExecution;
import io.kestra.core.models.executions.TaskRun;
import io.kestra.core.models.flows.Flow;
import io.kestra.core.models.flows.Input;
import io.kestra.core.models.flows.input.BoolInput;
import io.kestra.core.models.flows.State;
import io.kestra.core.queues.QueueException;
import io.kestra.core.queues.QueueFactoryInterface;
import io.kestra.core.queues.QueueInterface;
import io.kestra.core.repositories.ExecutionRepositoryInterface;
import io.kestra.core.repositories.FlowRepositoryInterface;
import io.kestra.core.runners.FlowInputOutput;
import io.kestra.core.services.ExecutionService;
import io.kestra.core.tenant.TenantService;
import io.kestra.core.utils.ListUtils;
import io.micronaut.context.ApplicationContext;
import io.micronaut.core.type.Argument;
import io.micronaut.inject.qualifiers.Qualifiers;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;

/** Starts executions, waits for their end, stops them. */
final class Runs {
    /** A restart in the instant of the end hangs for ever in half of the cases; none did 0.1 s after it. */
    private static final long REST_BEFORE_RESTART_MS = 1000;

    private record Run(Flow flow, CompletableFuture<Execution> end) {}

    private final ExecutionRepositoryInterface executions;
    private final FlowRepositoryInterface flows;
    private final FlowInputOutput inputs;
    private final ExecutionService service;
    private final QueueInterface<Execution> queue;
    private final QueueInterface<ExecutionKilled> kills;
    private final Backfills backfills;
    private final Map<String, Run> running = new ConcurrentHashMap<>();
    private final Events events;

    @SuppressWarnings("unchecked")
    Runs(ApplicationContext context, Events events) {
        this.executions = context.getBean(ExecutionRepositoryInterface.class);
        this.flows = context.getBean(FlowRepositoryInterface.class);
        this.inputs = context.getBean(FlowInputOutput.class);
        this.service = context.getBean(ExecutionService.class);
        this.queue = context.getBean(Argument.of(QueueInterface.class, Execution.class), Qualifiers.byName(QueueFactoryInterface.EXECUTION_NAMED));
        this.kills = context.getBean(Argument.of(QueueInterface.class, ExecutionKilled.class), Qualifiers.byName(QueueFactoryInterface.KILL_NAMED));
        this.backfills = new Backfills(context);
        this.events = events;
        events.watch(this::saw);
    }

    /** Runs a flow to its end, afterExecution tasks included; "finished" is the last event. */
    void run(Object request, String namespace, String flowId, Map<String, Object> values, Map<String, Object> labels) throws Exception {
        Flow flow = flow(namespace, flowId);
        follow(request, flow, Execution.newExecution(flow, (f, e) -> typed(flow, e, values), labels(labels), Optional.empty()));
    }

    /** Has the scheduler run a schedule's past ticks; returns when it has begun. */
    void backfill(String namespace, String flowId, String trigger, String start, String end, Map<String, Object> values, Map<String, Object> labels)
        throws Exception {
        Flow flow = flow(namespace, flowId);
        refuseUndeclared(flow, values);
        ListUtils.emptyOnNull(flow.getInputs()).stream().filter(BoolInput.class::isInstance).forEach(input -> {
            Object value = values.get(input.getId());
            if (value != null && !String.valueOf(value).matches("true|false")) { // Kestra takes any other text for false
                throw new IllegalArgumentException("flow " + flow.getId() + ": " + input.getId() + " is true or false, not " + value);
            }
        });
        backfills.start(flow, trigger, start, end, values, labels(labels));
    }

    /** Runs the failed tasks of an execution, and what follows them, again under the same id. */
    void restart(Object request, String id) throws Exception {
        Thread.sleep(REST_BEFORE_RESTART_MS);
        Execution execution = find(id);
        follow(request, flow(execution.getNamespace(), execution.getFlowId()), service.restart(execution, null));
    }

    /** Runs an execution again with the same inputs under a new id, from its start or from a task (null: start). */
    void replay(Object request, String id, String task) throws Exception {
        Execution execution = find(id);
        Flow flow = flow(execution.getNamespace(), execution.getFlowId());
        String from = task == null ? null : ListUtils.emptyOnNull(execution.getTaskRunList()).stream()
            .filter(run -> run.getTaskId().equals(task)).map(TaskRun::getId).findFirst()
            .orElseThrow(() -> new IllegalArgumentException("execution " + id + " ran no task " + task));
        follow(request, flow, service.replay(execution, flow, from, null));
    }

    /** Stops an execution, its child executions and their processes. */
    void kill(String id) throws QueueException {
        Execution execution = find(id);
        if (execution.getState().isTerminated()) {
            throw new IllegalArgumentException("execution " + id + " has already ended " + execution.getState().getCurrent());
        }
        requestKill(id);
    }

    /** For the end of the engine: what runs is killed, and has ended when this returns (10 s at most). */
    void killAll() {
        try {
            for (String id : running.keySet()) {
                requestKill(id);
            }
            for (Execution execution : unfinished()) {
                requestKill(execution.getId());
            }
            for (int polls = 0; polls < 200 && !(running.isEmpty() && unfinished().isEmpty()); polls++) {
                Thread.sleep(50);
            }
        } catch (QueueException | InterruptedException e) {
            events.error(null, e);
        }
    }

    /** Kills what a killed engine left: else Kestra runs it again, beside the new runs, when its grace period is over. */
    void killLeftovers() throws QueueException {
        for (Execution execution : unfinished()) {
            requestKill(execution.getId());
            events.execution("leftover", execution);
        }
    }

    private List<Execution> unfinished() {
        List<State.Type> states = Arrays.stream(State.Type.values()).filter(state -> !state.isTerminated()).toList();
        QueryFilter filter = new QueryFilter(QueryFilter.Field.STATE, QueryFilter.Op.IN, states);
        return executions.findAsync(TenantService.MAIN_TENANT, List.of(filter)).collectList().block();
    }

    private void requestKill(String id) throws QueueException {
        kills.emit(ExecutionKilledExecution.builder().tenantId(TenantService.MAIN_TENANT).executionId(id)
            .state(ExecutionKilled.State.REQUESTED).isOnKillCascade(true).build());
    }

    private Execution find(String id) {
        return executions.findById(TenantService.MAIN_TENANT, id)
            .orElseThrow(() -> new IllegalArgumentException("no execution " + id));
    }

    private Flow flow(String namespace, String id) {
        return flows.findById(TenantService.MAIN_TENANT, namespace, id)
            .orElseThrow(() -> new IllegalArgumentException("no flow " + id + " in namespace " + namespace));
    }

    private void follow(Object request, Flow flow, Execution execution) throws QueueException, InterruptedException, ExecutionException {
        Run run = new Run(flow, new CompletableFuture<>());
        events.belongs(execution.getId(), request);
        running.put(execution.getId(), run);
        try {
            queue.emit(execution);
            run.end().get();
            events.execution("finished", stored(run, execution.getId()));
        } finally {
            running.remove(execution.getId());
        }
    }

    /** The end is told before its transaction commits; an engine that stopped then would run the last task again. */
    private Execution stored(Run run, String id) throws InterruptedException {
        Execution execution = find(id);
        while (!service.isTerminated(run.flow(), execution)) {
            Thread.sleep(20);
            execution = find(id);
        }
        return execution;
    }

    private void saw(Execution execution) {
        Run run = running.get(execution.getId());
        if (run != null && service.isTerminated(run.flow(), execution)) {
            run.end().complete(execution);
        }
    }

    /** Kestra ignores undeclared inputs and leaves the input's name out of some messages: here both are errors with names. */
    private Map<String, Object> typed(Flow flow, Execution execution, Map<String, Object> values) {
        refuseUndeclared(flow, values);
        try {
            return inputs.readExecutionInputs(flow, execution, values);
        } catch (InputOutputValidationException e) {
            List<String> refused = inputs.resolveInputs(flow.getInputs(), flow, execution, values).stream()
                .filter(each -> each.exceptions() != null && !each.exceptions().isEmpty())
                .map(each -> each.input().getId())
                .toList();
            throw new IllegalArgumentException("flow " + flow.getId() + " refuses the value of " + refused + ": " + e.getMessage().strip(), e);
        }
    }

    private static void refuseUndeclared(Flow flow, Map<String, Object> values) {
        List<String> declared = ListUtils.emptyOnNull(flow.getInputs()).stream().map(Input::getId).toList();
        values.keySet().stream().filter(name -> !declared.contains(name)).findFirst().ifPresent(name -> {
            throw new IllegalArgumentException("flow " + flow.getId() + " has no input " + name + ", only " + declared);
        });
    }

    private static List<Label> labels(Map<String, Object> labels) {
        return labels.entrySet().stream().map(each -> new Label(each.getKey(), String.valueOf(each.getValue()))).toList();
    }
}
