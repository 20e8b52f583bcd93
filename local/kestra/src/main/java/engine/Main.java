package engine;

import io.kestra.core.serializers.JacksonMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;

/**
 * Reads one JSON command a line from stdin, writes one JSON event a line to stdout; ends when stdin ends, so that a
 * driver that dies, however it dies, takes the engine with it.
 *
 * Each command has a "request" number, which its events carry; its last event is "done", "finished" or "error":
 * load {namespace, root, files: [], flows}, run {namespace, flow, inputs: {}, labels: {}},
 * restart {execution}, replay {execution, task?}, kill {execution},
 * backfill {namespace, flow, trigger, start, end?, inputs: {}, labels: {}}.
 */
public final class Main {
    private Main() {}

    /** Arguments: the folder of plugin jars, and "scheduler" when schedules are to run (from the first load on). */
    public static void main(String[] args) throws Exception {
        Events events = new Events(System.out);
        Engine engine = start(events, Path.of(args[0]), args.length > 1 && args[1].equals("scheduler"));
        // Runs on every end but SIGKILL: end of stdin, SIGTERM, Ctrl-C.
        Runtime.getRuntime().addShutdownHook(new Thread(() -> closeInTime(engine)));
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = commands.readLine()) != null;) {
            obey(engine, events, JacksonMapper.toMap(line));
        }
        System.exit(0);
    }

    /** A close that hangs (Kestra closes itself when its database fails) must not keep the process. */
    private static void closeInTime(Engine engine) {
        Thread closing = Thread.ofPlatform().daemon().start(engine::close);
        try {
            closing.join(Duration.ofSeconds(20));
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private static Engine start(Events events, Path plugins, boolean scheduler) throws Exception {
        try {
            Engine engine = Engine.start(events, plugins, scheduler);
            events.emit("ready", null, Map.of());
            return engine;
        } catch (Exception e) {
            events.error(null, e);
            System.exit(1);
            throw e;
        }
    }

    private interface Work {
        void now() throws Exception;
    }

    private static void obey(Engine engine, Events events, Map<String, Object> command) {
        Object request = command.get("request");
        Runs runs = engine.runs();
        switch (text(command, "do")) {
            case "load" -> here(events, request, () -> engine.load(
                request, text(command, "namespace"), Path.of(text(command, "root")), strings(command, "files"), Path.of(text(command, "flows"))));
            case "backfill" -> beside(events, request, () -> {
                runs.backfill(
                    text(command, "namespace"), text(command, "flow"), text(command, "trigger"), text(command, "start"), (String) command.get("end"),
                    map(command, "inputs"), map(command, "labels"));
                events.emit("done", request, Map.of());
            });
            case "kill" -> here(events, request, () -> runs.kill(text(command, "execution")));
            case "run" -> beside(events, request, () -> runs.run(
                request, text(command, "namespace"), text(command, "flow"), map(command, "inputs"), map(command, "labels")));
            case "restart" -> beside(events, request, () -> runs.restart(request, text(command, "execution")));
            case "replay" -> beside(events, request, () -> runs.replay(request, text(command, "execution"), (String) command.get("task")));
            default -> events.error(request, new IllegalArgumentException("unknown command " + command.get("do")));
        }
    }

    /** On the reading thread, so that no later command overtakes it. */
    private static void here(Events events, Object request, Work work) {
        try {
            work.now();
            events.emit("done", request, Map.of());
        } catch (Exception e) {
            events.error(request, e);
        }
    }

    /** Long work must not keep the end of stdin from being seen. */
    private static void beside(Events events, Object request, Work work) {
        Thread.ofPlatform().daemon().start(() -> {
            try {
                work.now();
            } catch (Exception e) {
                events.error(request, e);
            }
        });
    }

    private static String text(Map<String, Object> command, String key) {
        if (command.get(key) instanceof String value) {
            return value;
        }
        throw new IllegalArgumentException("the command needs \"" + key + "\" as text");
    }

    @SuppressWarnings("unchecked")
    private static List<String> strings(Map<String, Object> command, String key) {
        return (List<String>) command.getOrDefault(key, List.of());
    }

    @SuppressWarnings("unchecked")
    private static Map<String, Object> map(Map<String, Object> command, String key) {
        return (Map<String, Object>) command.getOrDefault(key, Map.of());
    }
}
