package engine;

import io.kestra.core.exceptions.FlowProcessingException;
import io.kestra.core.models.flows.FlowSource;
import io.kestra.core.models.flows.FlowWithSource;
import io.kestra.core.repositories.FlowRepositoryInterface;
import io.kestra.core.services.FlowService;
import io.kestra.core.storages.Namespace;
import io.kestra.core.storages.NamespaceFactory;
import io.kestra.core.storages.NamespaceFile;
import io.kestra.core.storages.StorageInterface;
import io.kestra.core.tenant.TenantService;
import io.micronaut.context.ApplicationContext;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/** The repository's flows and namespace files, put into the engine. */
final class Project {
    private final FlowService flows;
    private final FlowRepositoryInterface repository;
    private final FlowCheck check;
    private final NamespaceFactory namespaces;
    private final StorageInterface storage;
    private final Events events;

    Project(ApplicationContext context, Events events) {
        this.flows = context.getBean(FlowService.class);
        this.repository = context.getBean(FlowRepositoryInterface.class);
        this.check = new FlowCheck(context);
        this.namespaces = context.getBean(NamespaceFactory.class);
        this.storage = context.getBean(StorageInterface.class);
        this.events = events;
    }

    /** Makes the namespace's files and flows equal to those given; leaves all as it is when a flow is refused. */
    void load(Object request, String namespace, Path root, List<String> files, Path folder)
        throws IOException, URISyntaxException, FlowProcessingException {
        List<FlowSource> sources = new ArrayList<>();
        try (Stream<Path> found = Files.list(folder)) {
            for (Path file : found.filter(path -> path.toString().endsWith(".yml")).sorted().toList()) {
                sources.add(new FlowSource(file.getFileName().toString(), Files.readString(file)));
            }
        }
        List<String> refusals = check.refusals(namespace, sources);
        if (!refusals.isEmpty()) {
            throw new IllegalArgumentException("no flow was loaded:\n" + String.join("\n", refusals));
        }
        putFiles(request, namespace, root, files);
        for (FlowSource source : sources) {
            FlowWithSource flow = flows.importFlow(TenantService.MAIN_TENANT, source.content());
            events.emit("flow", request, Map.of("file", source.filename(), "flow", flow.getId(), "revision", flow.getRevision()));
        }
        List<String> here = sources.stream().map(FlowSource::filename).toList();
        for (FlowWithSource old : repository.findByNamespaceWithSource(TenantService.MAIN_TENANT, namespace)) {
            if (!here.contains(old.getId() + ".yml")) {
                repository.delete(old);
            }
        }
    }

    /**
     * Makes the namespace's files equal to the named ones below root. An unchanged file is left alone, because each
     * put keeps a new version of it; a file that is gone here goes there, so that no stale module is imported.
     */
    private void putFiles(Object request, String namespace, Path root, List<String> names) throws IOException, URISyntaxException {
        Namespace target = namespaces.of(TenantService.MAIN_TENANT, namespace, storage);
        Map<String, NamespaceFile> there = new HashMap<>();
        target.all().forEach(file -> there.put(file.path(), file));
        int changed = 0;
        for (String name : names) {
            byte[] content = Files.readAllBytes(root.resolve(name));
            if (there.remove(name) == null || !Arrays.equals(content, read(target, name))) {
                target.putFile(Path.of("/" + name), new ByteArrayInputStream(content), Namespace.Conflicts.OVERWRITE);
                changed++;
            }
        }
        for (NamespaceFile gone : there.values()) {
            target.delete(gone);
        }
        events.emit("files", request, Map.of("namespace", namespace, "changed", changed, "removed", there.keySet()));
    }

    private static byte[] read(Namespace namespace, String name) throws IOException {
        try (InputStream content = namespace.getFileContent(Path.of("/" + name))) {
            return content.readAllBytes();
        }
    }
}
