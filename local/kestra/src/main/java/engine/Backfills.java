package engine;

import io.kestra.core.models.Label;
import io.kestra.core.models.flows.Flow;
import io.kestra.core.models.triggers.Backfill;
import io.kestra.core.models.triggers.Trigger;
import io.kestra.core.models.triggers.TriggerContext;
import io.kestra.core.queues.QueueFactoryInterface;
import io.kestra.core.queues.QueueInterface;
import io.kestra.core.repositories.TriggerRepositoryInterface;
import io.kestra.core.runners.RunContextFactory;
import io.kestra.core.services.ConditionService;
import io.kestra.core.tenant.TenantService;
import io.kestra.core.utils.ListUtils;
import io.kestra.plugin.core.trigger.Schedule;
import io.micronaut.context.ApplicationContext;
import io.micronaut.core.type.Argument;
import io.micronaut.inject.qualifiers.Qualifiers;
import java.time.ZonedDateTime;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** Asks the scheduler to run a schedule's past ticks, as the backfill button of Kestra's UI does. */
final class Backfills {
    private static final int POLLS = 3000; // 5 minutes

    private final TriggerRepositoryInterface triggers;
    private final ConditionService conditions;
    private final RunContextFactory contexts;
    private final QueueInterface<Trigger> queue;

    @SuppressWarnings("unchecked")
    Backfills(ApplicationContext context) {
        this.triggers = context.getBean(TriggerRepositoryInterface.class);
        this.conditions = context.getBean(ConditionService.class);
        this.contexts = context.getBean(RunContextFactory.class);
        this.queue = context.getBean(Argument.of(QueueInterface.class, Trigger.class), Qualifiers.byName(QueueFactoryInterface.TRIGGER_NAMED));
    }

    /**
     * Both ends are inclusive; the runs follow one after another, in order. Without an end: to now.
     *
     * Kestra 1.3 never begins a backfill whose only tick is its start, and never ends one without a tick: the trigger
     * would wait for ever. So the start lies a second earlier, and a range without a tick is refused.
     */
    void start(Flow flow, String triggerId, String start, String end, Map<String, Object> inputs, List<Label> labels) throws Exception {
        Schedule schedule = ListUtils.emptyOnNull(flow.getTriggers()).stream()
            .filter(each -> each.getId().equals(triggerId) && each instanceof Schedule).map(Schedule.class::cast).findFirst()
            .orElseThrow(() -> new IllegalArgumentException("flow " + flow.getId() + " has no schedule " + triggerId));
        if (schedule.isDisabled()) {
            throw new IllegalArgumentException("trigger " + triggerId + " is disabled in the flow's source: its backfill would wait for ever");
        }
        Trigger before = known(flow, triggerId);
        if (before.getBackfill() != null) {
            throw new IllegalArgumentException("trigger " + triggerId + " is still at its backfill until " + before.getBackfill().getEnd());
        }
        ZonedDateTime last = end == null ? ZonedDateTime.now() : ZonedDateTime.parse(end);
        Backfill backfill = Backfill.builder().start(ZonedDateTime.parse(start).minusSeconds(1))
            .end(end == null ? null : last).inputs(inputs).labels(labels).build();
        ZonedDateTime first = schedule.nextEvaluationDate(
            conditions.conditionContext(contexts.of(flow, schedule), flow, null), Optional.of(before.withBackfill(backfill)));
        if (first.isAfter(last)) {
            throw new IllegalArgumentException("trigger " + triggerId + " has no tick from " + start + " to " + last);
        }
        begin(flow, before, backfill, first, last);
    }

    /**
     * Asks until the scheduler has begun. It writes a trigger that it read before when a run of it ends, when a flow is
     * loaded, and at its own start (AbstractScheduler.initializedTriggers): what was asked meanwhile is overwritten,
     * also in the second between its first look, which only moves the trigger's dates to the first tick, and that run.
     */
    private void begin(Flow flow, Trigger before, Backfill backfill, ZonedDateTime first, ZonedDateTime last) throws Exception {
        boolean asked = false;
        for (int polls = 0, lost = 0; polls < POLLS; polls++) {
            Trigger now = known(flow, before.getTriggerId());
            boolean free = now.getExecutionId() == null;
            boolean within = !now.getDate().isBefore(first) && !now.getDate().isAfter(last);
            Backfill left = now.getBackfill();
            boolean waits = left != null && !left.getCurrentDate().isAfter(first);
            if (asked && within && !(free && (waits || now.getDate().isEqual(before.getDate())))) {
                return;
            }
            boolean there = left != null && now.getNextExecutionDate().isEqual(first);
            if (free && !there && lost++ % 30 == 0) {
                queue.emit(now.withBackfill(backfill).toBuilder().nextExecutionDate(first).build());
                asked = true;
            }
            Thread.sleep(100);
        }
        throw new IllegalStateException("trigger " + before.getTriggerId() + " of " + flow.getId()
            + " has not begun its backfill: when a run of it is going on, ask again after its end");
    }

    /** The scheduler knows a trigger 1 to 2 s after its flow was loaded. */
    private Trigger known(Flow flow, String id) throws InterruptedException {
        TriggerContext wanted = TriggerContext.builder().tenantId(TenantService.MAIN_TENANT)
            .namespace(flow.getNamespace()).flowId(flow.getId()).triggerId(id).build();
        for (int polls = 0; polls < 100; polls++) {
            Optional<Trigger> found = triggers.findLast(wanted);
            if (found.isPresent()) {
                return found.get();
            }
            Thread.sleep(100);
        }
        throw new IllegalStateException("the scheduler does not know trigger " + id + " of " + flow.getId());
    }
}
