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
import java.util.List;

/** One Kestra server in this process: executor, worker, indexer and, if asked, scheduler over H2 and local storage. */
final class Engine implements AutoCloseable {
    private static final int WORKER_THREADS = 8;

    private final ApplicationContext context;
    private final Project project;
    private final Runs runs;
    private final Events events;
    private boolean schedulerWanted;

    private Engine(ApplicationContext context, Events events, boolean scheduler) {
        this.context = context;
        this.events = events;
        this.schedulerWanted = scheduler;
        this.project = new Project(context, events);
        this.runs = new Runs(context, events);
    }

    /** Task types of plugins come from the jars of a folder; settings from the YAML files named by -Dmicronaut.config.files. */
    static Engine start(Events events, Path plugins, boolean scheduler) throws QueueException {
        DefaultPluginRegistry.getOrCreate().registerIfAbsent(plugins);
        ApplicationContext context = ApplicationContext.builder(Engine.class).environments("cli").singletons(events).start();
        DefaultWorker worker = context.createBean(DefaultWorker.class, IdUtils.create(), WORKER_THREADS, null);
        context.registerSingleton(worker);
        Engine engine = new Engine(context, events, scheduler);
        List<Runnable> services = List.of(context.getBean(ExecutorInterface.class), worker, context.getBean(Indexer.class));
        services.forEach(engine::start);
        engine.runs.killLeftovers();
        return engine;
    }

    /** A service that ends with an error leaves an engine that accepts runs and never runs them. */
    private void start(Runnable service) {
        Thread.ofPlatform().daemon().uncaughtExceptionHandler((thread, error) -> {
            events.error(null, error);
            System.exit(1);
        }).start(service);
    }

    /** Puts flows and files in. Schedules start after the first load: a missed tick must meet the files of today. */
    void load(Object request, String namespace, Path root, List<String> files, Path flows) throws Exception {
        project.load(request, namespace, root, files, flows);
        if (schedulerWanted) {
            schedulerWanted = false;
            start(context.getBean(Scheduler.class));
        }
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
