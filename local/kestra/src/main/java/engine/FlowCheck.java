package engine;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JavaType;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.MappingIterator;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.kestra.core.models.executions.Execution;
import io.kestra.core.models.flows.Flow;
import io.kestra.core.models.flows.FlowSource;
import io.kestra.core.models.flows.GenericFlow;
import io.kestra.core.models.flows.Input;
import io.kestra.core.models.property.Property;
import io.kestra.core.models.tasks.Task;
import io.kestra.core.models.triggers.AbstractTrigger;
import io.kestra.core.models.triggers.Schedulable;
import io.kestra.core.runners.FlowInputOutput;
import io.kestra.core.serializers.JacksonMapper;
import io.kestra.core.serializers.YamlParser;
import io.kestra.core.services.FlowService;
import io.kestra.core.tenant.TenantService;
import io.kestra.core.utils.ListUtils;
import io.kestra.core.utils.MapUtils;
import io.kestra.plugin.core.flow.Subflow;
import io.micronaut.context.ApplicationContext;
import jakarta.validation.ConstraintViolationException;
import java.io.IOException;
import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Function;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Says what is wrong with a set of flow files: Kestra's own strict validation, and what it accepts at load and fails on
 * at run time (constants of dynamic properties, defaults, inputs of triggers and subflows, names in expressions).
 */
final class FlowCheck {
    private static final ObjectMapper JSON = JacksonMapper.ofJson();
    private static final Pattern UNKNOWN_FIELD = Pattern.compile("Unrecognized field \"([^\"]+)\" \\(class ([\\w.$]+)\\)");
    private static final Pattern UNKNOWN_TYPE = Pattern.compile("Invalid type: (\\S+)");

    /** A flow that Kestra's validation accepts, with all its tasks by id. */
    record Parsed(FlowSource source, Flow flow, Map<String, Task> tasks) {}

    private final FlowService flows;
    private final FlowInputOutput inputs;
    private final Expressions expressions;
    private final List<String> refusals = new ArrayList<>();
    private String file;

    FlowCheck(ApplicationContext context) {
        this.flows = context.getBean(FlowService.class);
        this.inputs = context.getBean(FlowInputOutput.class);
        this.expressions = new Expressions(context);
    }

    /** One line for each mistake: file, where (line or path), what. Empty when all may be loaded. */
    List<String> refusals(String namespace, List<FlowSource> sources) {
        refusals.clear();
        Map<String, Parsed> parsed = new LinkedHashMap<>();
        for (FlowSource source : sources) {
            file = source.filename();
            Flow flow = valid(namespace, source);
            if (flow != null) {
                parsed.put(flow.getId(), new Parsed(source, flow, new LinkedHashMap<>()));
            }
        }
        for (Parsed each : parsed.values()) {
            file = each.source().filename();
            constants(each.flow(), "", each.tasks());
        }
        for (Parsed each : parsed.values()) {
            file = each.source().filename();
            defaults(each.flow());
            ListUtils.emptyOnNull(each.flow().getTriggers()).forEach(trigger -> trigger(each.flow(), trigger));
            each.tasks().values().forEach(task -> subflow(task, parsed));
            expressions.check(each, parsed, this::refuse);
        }
        return List.copyOf(refusals);
    }

    private void refuse(String where, String what) {
        refusals.add(file + ": " + (where.isEmpty() ? "" : where + ": ") + what);
    }

    /** The flow, if the file holds one document that Kestra's strict validation accepts and that is named like its file. */
    private Flow valid(String namespace, FlowSource source) {
        int before = refusals.size();
        try (MappingIterator<JsonNode> documents = JacksonMapper.ofYaml().readerFor(JsonNode.class).readValues(source.content())) {
            GenericFlow.fromYaml(TenantService.MAIN_TENANT, source.content()); // finds duplicate keys; validate does not
            String found = flows.validate(TenantService.MAIN_TENANT, List.of(source)).getFirst().getConstraints();
            if (found != null) {
                String hint = found.contains("(class io.kestra.plugin.scripts.python.") || found.contains("(class io.kestra.plugin.dbt.")
                    ? " (the stand-in of this task type knows these properties only; --plugins DIR takes the real plugin)" : "";
                refuse(place(found, JacksonMapper.ofYaml().readTree(source.content())), withoutPrefix(found) + hint);
                return null;
            }
            if (documents.readAll().size() != 1) {
                refuse("", "holds more than one YAML document; Kestra would load the first one only");
            }
        } catch (ConstraintViolationException | IOException e) {
            refuse("", withoutPrefix(e.getMessage()));
            return null;
        }
        Flow flow = YamlParser.parse(source.content(), Flow.class);
        if (!source.filename().equals(flow.getId() + ".yml")) {
            refuse("id", flow.getId() + " must be the name of the file");
        }
        if (!flow.getNamespace().equals(namespace)) {
            refuse("namespace", flow.getNamespace() + " must be " + namespace);
        }
        return refusals.size() == before ? flow : null;
    }

    /** The path of what Kestra's message is about: it names a class and a field, or a type, but not which task has it. */
    private static String place(String message, JsonNode flow) {
        Matcher field = UNKNOWN_FIELD.matcher(message);
        Matcher type = UNKNOWN_TYPE.matcher(message);
        List<String> found = new ArrayList<>();
        if (field.find()) {
            walk(flow, "", found, node -> node.path("type").asText().equals(field.group(2)) ? field.group(1) : null);
            if (found.isEmpty()) {
                walk(flow, "", found, node -> node.has("type") ? null : field.group(1));
            }
        } else if (type.find()) {
            walk(flow, "", found, node -> node.path("type").asText().equals(type.group(1)) ? "type" : null);
        }
        return String.join(", ", found);
    }

    private static void walk(JsonNode node, String path, List<String> found, Function<JsonNode, String> wanted) {
        String name = node.isObject() ? wanted.apply(node) : null;
        if (name != null && node.has(name)) {
            found.add(path.isEmpty() ? name : path + "." + name);
        }
        node.properties().forEach(each -> walk(each.getValue(), path.isEmpty() ? each.getKey() : path + "." + each.getKey(), found, wanted));
        for (int index = 0; node.isArray() && index < node.size(); index++) {
            String id = node.get(index).path("id").asText();
            walk(node.get(index), id.isEmpty() ? path + "[" + index + "]" : id, found, wanted);
        }
    }

    private static String withoutPrefix(String message) {
        return message.strip().replaceFirst("^(Validation error|Illegal \\w+ source): ", "");
    }

    /** Checks each constant of a dynamic property in this object and all below it, and collects the tasks. */
    private void constants(Object node, String path, Map<String, Task> tasks) {
        if (node instanceof Task task) {
            tasks.put(task.getId(), task);
        }
        for (Class<?> type = node.getClass(); type != null && type != Object.class; type = type.getSuperclass()) {
            for (Field field : type.getDeclaredFields()) {
                if (!Modifier.isStatic(field.getModifiers()) && !field.isSynthetic()) {
                    below(value(field, node), field.getGenericType(), path.isEmpty() ? field.getName() : path + "." + field.getName(), tasks);
                }
            }
        }
    }

    private void below(Object value, Type type, String path, Map<String, Task> tasks) {
        if (value instanceof Property<?> property) {
            if (type instanceof ParameterizedType generic) {
                constant(property, JSON.constructType(generic.getActualTypeArguments()[0]), path);
            }
        } else if (value instanceof Collection<?> items) {
            int index = 0;
            for (Object item : items) {
                below(item, Object.class, path + "[" + index++ + "]", tasks);
            }
        } else if (value instanceof Map<?, ?> map) {
            map.forEach((key, item) -> below(item, Object.class, path + "." + key, tasks));
        } else if (value != null && value.getClass().getName().startsWith("io.kestra.") && !(value instanceof Enum<?>)) {
            constants(value, value instanceof Task task ? task.getId() : value instanceof AbstractTrigger trigger ? trigger.getId() : path, tasks);
        }
    }

    private static Object value(Field field, Object node) {
        try {
            field.setAccessible(true);
            return field.get(node);
        } catch (IllegalAccessException e) {
            throw new IllegalStateException(e);
        }
    }

    private void constant(Property<?> property, JavaType type, String path) {
        JsonNode text = JSON.valueToTree(property);
        if (!text.isTextual() || type.isJavaLangObject()) {
            return;
        }
        JsonNode value = text;
        if (type.isContainerType() && !text.asText().strip().startsWith("{{")) {
            try {
                value = JSON.readTree(text.asText());
            } catch (JsonProcessingException e) {
                refuse(path, "'" + text.asText() + "' is not a " + (type.isMapLikeType() ? "map" : "list"));
                return;
            }
        }
        fits(value, type, path);
    }

    private void fits(JsonNode value, JavaType type, String path) {
        if (value.isTextual() && Expressions.isTemplate(value.asText())) {
            return;
        }
        if (type.isContainerType() && value.isContainerNode() && value.isArray() == !type.isMapLikeType()) {
            value.properties().forEach(entry -> fits(entry.getValue(), type.getContentType(), path + "." + entry.getKey()));
            for (int index = 0; value.isArray() && index < value.size(); index++) {
                fits(value.get(index), type.getContentType(), path + "[" + index + "]");
            }
            return;
        }
        try {
            JSON.convertValue(value, type);
        } catch (IllegalArgumentException e) {
            if (value.isTextual() && readable(value.asText(), type)) {
                return;
            }
            String hint = value.isObject() && type.hasRawClass(String.class) ? ": YAML read the text as a map, put it in quotes" : "";
            refuse(path, (value.isTextual() ? "'" + value.asText() + "'" : value.toString()) + " is not a " + name(type) + hint);
        }
    }

    private static boolean readable(String text, JavaType type) {
        try {
            JSON.readValue(text, type);
            return true;
        } catch (JsonProcessingException e) {
            return false;
        }
    }

    private static String name(JavaType type) {
        return type.getRawClass().getSimpleName() + (type.isEnumType() ? " " + List.of(type.getRawClass().getEnumConstants()) : "");
    }

    private void defaults(Flow flow) {
        Map<String, String> wrong = wrong(flow, Map.of());
        for (Input<?> input : ListUtils.emptyOnNull(flow.getInputs())) {
            if (input.getDefaults() != null && !Expressions.isTemplate(input.getDefaults().toString()) && wrong.containsKey(input.getId())) {
                refuse("inputs." + input.getId() + ".defaults", wrong.get(input.getId()));
            }
        }
    }

    private void trigger(Flow flow, AbstractTrigger trigger) {
        if (trigger instanceof Schedulable schedule) {
            Map<String, Object> values = MapUtils.emptyOnNull(schedule.getInputs());
            given(trigger.getId() + ".inputs", flow, values);
            values.entrySet().stream().filter(each -> Expressions.isTemplate(String.valueOf(each.getValue()))).forEach(each ->
                refuse(trigger.getId() + ".inputs." + each.getKey(), "must be a constant: each run would be born FAILED"));
        }
    }

    private void subflow(Task task, Map<String, Parsed> parsed) {
        if (task instanceof Subflow subflow && !Expressions.isTemplate(subflow.getFlowId())) {
            Parsed child = parsed.get(subflow.getFlowId());
            if (child == null) {
                refuse(task.getId() + ".flowId", "there is no (valid) flow " + subflow.getFlowId());
            } else {
                given(task.getId() + ".inputs", child.flow(), MapUtils.emptyOnNull(subflow.getInputs()));
            }
        }
    }

    /** Checks values that something gives to a flow: Kestra ignores undeclared ones, and fails each run for wrong ones. */
    private void given(String path, Flow flow, Map<String, Object> values) {
        List<String> declared = ListUtils.emptyOnNull(flow.getInputs()).stream().map(Input::getId).toList();
        values.keySet().stream().filter(name -> !declared.contains(name)).forEach(name ->
            refuse(path + "." + name, "flow " + flow.getId() + " has no such input, only " + declared));
        wrong(flow, values).forEach((name, why) -> {
            if (!(values.get(name) instanceof String text && Expressions.isTemplate(text))) {
                refuse(path + "." + name, why);
            }
        });
    }

    private Map<String, String> wrong(Flow flow, Map<String, Object> values) {
        Execution execution = Execution.newExecution(flow, null, List.of(), Optional.empty());
        Map<String, String> wrong = new LinkedHashMap<>();
        inputs.resolveInputs(flow.getInputs(), flow, execution, values).forEach(each -> {
            if (each.exceptions() != null && !each.exceptions().isEmpty()) {
                wrong.put(each.input().getId(), each.exceptions().iterator().next().getMessage().strip());
            }
        });
        return wrong;
    }
}
