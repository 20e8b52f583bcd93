package engine;

import io.kestra.core.models.executions.Execution;
import io.kestra.core.models.executions.LogEntry;
import io.kestra.core.models.executions.MetricEntry;
import io.kestra.core.queues.QueueException;
import io.kestra.core.queues.QueueFactoryInterface;
import io.kestra.core.queues.QueueInterface;
import io.kestra.jdbc.runner.JdbcQueueDependencies;
import io.kestra.runner.h2.H2Queue;
import io.kestra.runner.h2.H2QueueFactory;
import io.micronaut.context.ApplicationContext;
import io.micronaut.context.annotation.Bean;
import io.micronaut.context.annotation.Factory;
import io.micronaut.context.annotation.Replaces;
import jakarta.inject.Named;
import jakarta.inject.Singleton;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Set;

/**
 * Three of Kestra's queues, which also tell {@link Events} each message as it is sent.
 *
 * A plain subscription skips messages whose transactions commit out of order (seen: 5 to 22 of 3,000 log lines lost),
 * and nothing tells when the last log line of a run has come.
 */
@Factory
final class Queues {
    @Singleton
    @Bean(preDestroy = "close")
    @Named(QueueFactoryInterface.EXECUTION_NAMED)
    @Replaces(value = QueueInterface.class, named = QueueFactoryInterface.EXECUTION_NAMED, factory = H2QueueFactory.class)
    QueueInterface<Execution> executions(ApplicationContext context, JdbcQueueDependencies first, Events events) {
        return new ToldQueue<>(Execution.class, context, events);
    }

    @Singleton
    @Bean(preDestroy = "close")
    @Named(QueueFactoryInterface.WORKERTASKLOG_NAMED)
    @Replaces(value = QueueInterface.class, named = QueueFactoryInterface.WORKERTASKLOG_NAMED, factory = H2QueueFactory.class)
    QueueInterface<LogEntry> logs(ApplicationContext context, JdbcQueueDependencies first, Events events) {
        return new ToldQueue<>(LogEntry.class, context, events);
    }

    @Singleton
    @Bean(preDestroy = "close")
    @Named(QueueFactoryInterface.METRIC_QUEUE)
    @Replaces(value = QueueInterface.class, named = QueueFactoryInterface.METRIC_QUEUE, factory = H2QueueFactory.class)
    QueueInterface<MetricEntry> metrics(ApplicationContext context, JdbcQueueDependencies first, Events events) {
        return new ToldQueue<>(MetricEntry.class, context, events);
    }

    private static final class ToldQueue<T> extends H2Queue<T> {
        private final Events events;
        private final Set<T> told = Collections.synchronizedSet(Collections.newSetFromMap(new IdentityHashMap<>()));

        ToldQueue(Class<T> type, ApplicationContext context, Events events) {
            super(type, context);
            this.events = events;
        }

        @Override
        public void emit(String consumerGroup, T message) throws QueueException {
            super.emit(consumerGroup, message);
            if (!told.remove(message)) {
                events.sent(message);
            }
        }

        @Override
        public void emitOnly(String consumerGroup, T message) throws QueueException {
            super.emitOnly(consumerGroup, message);
            events.sent(message);
        }

        /** Sends through emit in other threads, in any order: told here, in the order of the caller. */
        @Override
        public void emitAsync(String consumerGroup, List<T> messages) throws QueueException {
            for (T message : messages) {
                told.add(message);
                events.sent(message);
            }
            super.emitAsync(consumerGroup, messages);
        }
    }
}
