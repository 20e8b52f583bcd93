package engine;

import io.kestra.core.plugins.DefaultPluginRegistry;
import io.kestra.core.queues.QueueException;
import io.kestra.core.runners.ExecutorInterface;
import io.kestra.core.runners.Indexer;
import io.kestra.core.runners.Scheduler;
import io.kestra.core.utils.IdUtils;
import io.kestra.worker.DefaultWorker;
import io.micronaut.context.ApplicationContext;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** One Kestra server in this process: executor, worker, indexer and, if asked, scheduler over H2 and local storage. */
final class Engine implements AutoCloseable {
    private static final int WORKER_THREADS = 8;

    private final ApplicationContext context;
    private final Project project;
    private final Runs runs;

    private Engine(ApplicationContext context, Events events) {
        this.context = context;
        this.project = new Project(context, events);
        this.runs = new Runs(context, events);
    }

    /** Task types of plugins come from the jars of a folder; settings from the YAML files named by -Dmicronaut.config.files. */
    static Engine start(Events events, Path plugins, boolean scheduler) throws QueueException {
        DefaultPluginRegistry.getOrCreate().registerIfAbsent(plugins);
        ApplicationContext context = ApplicationContext.builder(Engine.class).environments("cli").singletons(events).start();
        DefaultWorker worker = context.createBean(DefaultWorker.class, IdUtils.create(), WORKER_THREADS, null);
        context.registerSingleton(worker);
        Engine engine = new Engine(context, events);
        List<Runnable> services = new ArrayList<>(List.of(context.getBean(ExecutorInterface.class), worker, context.getBean(Indexer.class)));
        if (scheduler) {
            services.add(context.getBean(Scheduler.class));
        }
        services.forEach(service ->
            Thread.ofPlatform().daemon().uncaughtExceptionHandler((thread, error) -> die(events, error)).start(service));
        engine.runs.killLeftovers();
        return engine;
    }

    /** A service that ends with an error leaves an engine that accepts runs and never runs them. */
    private static void die(Events events, Throwable error) {
        events.error(null, error);
        System.exit(1);
    }

    Project project() {
        return project;
    }

    Runs runs() {
        return runs;
    }

    @Override
    public void close() {
        runs.killAll();
        context.close();
    }
}
