package engine;

import io.kestra.core.models.flows.Data;
import io.kestra.core.models.flows.Input;
import io.kestra.core.models.tasks.OutputFilesInterface;
import io.kestra.core.models.tasks.Task;
import io.kestra.core.runners.pebble.PebbleEngineFactory;
import io.kestra.core.serializers.YamlParser;
import io.kestra.core.utils.ListUtils;
import io.kestra.core.utils.MapUtils;
import io.kestra.plugin.core.flow.Subflow;
import io.micronaut.context.ApplicationContext;
import io.pebbletemplates.pebble.PebbleEngine;
import io.pebbletemplates.pebble.error.PebbleException;
import io.pebbletemplates.pebble.extension.ExtensionRegistry;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.BiConsumer;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;

/** Checks the names that a flow's {{ expressions }} use: secrets, settings, inputs, outputs, variables, filters, functions. */
final class Expressions {
    private static final Pattern RAW = Pattern.compile("\\{%-?\\s*raw\\s*-?%}.*?\\{%-?\\s*endraw\\s*-?%}", Pattern.DOTALL);
    private static final Pattern BLOCK = Pattern.compile("\\{\\{(.*?)}}|\\{%(.*?)%}", Pattern.DOTALL);
    private static final Pattern TEXT = Pattern.compile("'[^']*'|\"[^\"]*\"");
    private static final Pattern SECRET = Pattern.compile("\\bsecret\\(\\s*['\"]([^'\"]+)['\"]");
    /** The root of a name and up to three steps below it: outputs.extract.outputFiles['parts.tar']. */
    private static final String STEP = "(?:\\.([A-Za-z_]\\w*)|\\[\\s*['\"]([^'\"]+)['\"]\\s*])";
    private static final Pattern NAME = Pattern.compile("(?<![\\w.'\"])(outputs|inputs|envs|vars)" + STEP + STEP + "?" + STEP + "?");
    private static final Pattern FILTER = Pattern.compile("\\|\\s*([A-Za-z_]\\w*)");
    private static final Pattern FUNCTION = Pattern.compile("(?<![\\w.])([A-Za-z_]\\w*)\\s*\\(");
    private static final Set<String> WORDS = Set.of("and", "or", "not", "in", "is", "if", "elseif", "for", "contains", "matches", "equals");
    private static final Set<String> PROSE = Set.of("description", "displayName");

    private final PebbleEngine pebble;
    private final ExtensionRegistry known;

    Expressions(ApplicationContext context) {
        this.pebble = context.getBean(PebbleEngineFactory.class).create();
        this.known = pebble.getExtensionRegistry();
    }

    static boolean isTemplate(String text) {
        return text.contains("{{") || text.contains("{%");
    }

    /** Calls refuse with path and reason for each name that cannot be found. */
    void check(FlowCheck.Parsed flow, Map<String, FlowCheck.Parsed> flows, BiConsumer<String, String> refuse) {
        walk(YamlParser.parse(flow.source().content(), Map.class), "", (path, text) ->
            text(flow, flows, text, reason -> refuse.accept(path, reason)));
    }

    private interface Refuse {
        void because(String reason);
    }

    private static void walk(Object node, String path, BiConsumer<String, String> each) {
        if (node instanceof Map<?, ?> map) {
            String here = map.get("id") instanceof String id && map.get("type") instanceof String type
                ? (type.contains(".") ? id : path.replaceFirst("\\[\\d+]$", "." + id)) // ids say more than positions
                : path;
            map.forEach((key, value) -> {
                if (!PROSE.contains(String.valueOf(key))) {
                    walk(value, here.isEmpty() ? String.valueOf(key) : here + "." + key, each);
                }
            });
        } else if (node instanceof Collection<?> items) {
            int index = 0;
            for (Object item : items) {
                walk(item, path + "[" + index++ + "]", each);
            }
        } else if (node instanceof String text && isTemplate(text)) {
            each.accept(path, text);
        }
    }

    private void text(FlowCheck.Parsed flow, Map<String, FlowCheck.Parsed> flows, String text, Refuse refuse) {
        String rendered = RAW.matcher(text).replaceAll("");
        try {
            pebble.getLiteralTemplate(rendered);
        } catch (PebbleException e) {
            refuse.because(e.getPebbleMessage());
            return;
        }
        for (MatchResult block : BLOCK.matcher(rendered).results().toList()) {
            String expression = block.group(1) == null ? block.group(2) : block.group(1);
            SECRET.matcher(expression).results().map(found -> found.group(1)).filter(name -> !System.getenv().containsKey("SECRET_" + name))
                .forEach(name -> refuse.because("there is no secret " + name));
            NAME.matcher(expression).results().forEach(found -> name(flow, flows, found, refuse));
            functions(TEXT.matcher(expression).replaceAll("''"), refuse);
        }
    }

    private void functions(String expression, Refuse refuse) {
        FILTER.matcher(expression).results().map(found -> found.group(1)).filter(name -> known.getFilter(name) == null)
            .forEach(name -> refuse.because("there is no filter " + name));
        FUNCTION.matcher(FILTER.matcher(expression).replaceAll("")).results().map(found -> found.group(1))
            .filter(name -> !WORDS.contains(name) && known.getFunction(name) == null && known.getTest(name) == null)
            .forEach(name -> refuse.because("there is no function " + name));
    }

    private static void name(FlowCheck.Parsed flow, Map<String, FlowCheck.Parsed> flows, MatchResult found, Refuse refuse) {
        String name = step(found, 1);
        switch (found.group(1)) {
            case "inputs" -> {
                List<String> declared = ListUtils.emptyOnNull(flow.flow().getInputs()).stream().map(Input::getId).toList();
                if (!declared.contains(name)) {
                    refuse.because("there is no input " + name + ", only " + declared);
                }
            }
            case "envs" -> {
                if (System.getenv().keySet().stream().noneMatch(each -> each.equalsIgnoreCase("ENV_" + name))) {
                    refuse.because("there is no setting " + name + " (the engine has no ENV_" + name.toUpperCase() + ")");
                }
            }
            case "vars" -> {
                if (!MapUtils.emptyOnNull(flow.flow().getVariables()).containsKey(name)) {
                    refuse.because("there is no variable " + name);
                }
            }
            default -> output(flow.tasks().get(name), name, step(found, 2), step(found, 3), flows, refuse);
        }
    }

    private static String step(MatchResult found, int number) {
        return found.group(2 * number) == null ? found.group(2 * number + 1) : found.group(2 * number);
    }

    private static void output(Task task, String name, String kind, String item, Map<String, FlowCheck.Parsed> flows, Refuse refuse) {
        if (task == null) {
            refuse.because("there is no task " + name);
        } else if (item != null && task instanceof Subflow subflow && "outputs".equals(kind) && flows.containsKey(subflow.getFlowId())) {
            List<String> declared = ListUtils.emptyOnNull(flows.get(subflow.getFlowId()).flow().getOutputs()).stream().map(Data::getId).toList();
            if (!declared.contains(item)) {
                refuse.because("flow " + subflow.getFlowId() + " has no output " + item + ", only " + declared);
            }
        } else if (item != null && task instanceof OutputFilesInterface files && "outputFiles".equals(kind) && !captures(task, files, item)) {
            refuse.because("outputFiles of task " + name + " has no " + item);
        }
    }

    private static boolean captures(Task task, OutputFilesInterface files, String name) {
        String list = files.getOutputFiles() == null ? "[]" : String.valueOf(files.getOutputFiles());
        boolean open = isTemplate(list) || list.contains("*") || list.contains("?");
        boolean given = task.getType().startsWith("io.kestra.plugin.dbt.") && Set.of("manifest.json", "run_results.json").contains(name);
        return open || given || list.contains("\"" + name + "\"");
    }
}
