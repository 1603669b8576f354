import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.common.Value;
import io.opentelemetry.api.logs.Logger;
import io.opentelemetry.api.logs.Severity;
import io.opentelemetry.api.metrics.DoubleHistogram;
import io.opentelemetry.api.metrics.LongCounter;
import io.opentelemetry.api.metrics.Meter;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.TraceFlags;
import io.opentelemetry.api.trace.TraceState;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.context.Context;
import io.opentelemetry.exporter.otlp.http.logs.OtlpHttpLogRecordExporter;
import io.opentelemetry.exporter.otlp.http.metrics.OtlpHttpMetricExporter;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter;
import io.opentelemetry.exporter.otlp.logs.OtlpGrpcLogRecordExporter;
import io.opentelemetry.exporter.otlp.metrics.OtlpGrpcMetricExporter;
import io.opentelemetry.exporter.otlp.trace.OtlpGrpcSpanExporter;
import io.opentelemetry.sdk.logs.SdkLoggerProvider;
import io.opentelemetry.sdk.logs.export.BatchLogRecordProcessor;
import io.opentelemetry.sdk.logs.export.LogRecordExporter;
import io.opentelemetry.sdk.metrics.Aggregation;
import io.opentelemetry.sdk.metrics.InstrumentSelector;
import io.opentelemetry.sdk.metrics.SdkMeterProvider;
import io.opentelemetry.sdk.metrics.View;
import io.opentelemetry.sdk.metrics.export.MetricExporter;
import io.opentelemetry.sdk.metrics.export.PeriodicMetricReader;
import io.opentelemetry.sdk.resources.Resource;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.export.BatchSpanProcessor;
import io.opentelemetry.sdk.trace.export.SpanExporter;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/**
 * Sends a fixed story with OpenTelemetry's Java SDK and its own exporters, and prints what it made as JSON.
 * Arguments: SIGNAL (traces, logs, metrics) ENCODING (grpc, proto) ENDPOINT [gzip]
 */
public final class Send {
    private static final long START = 1_790_000_000_000_000_000L;
    private static final TimeUnit NS = TimeUnit.NANOSECONDS;
    private static final SpanContext OTHER =
            SpanContext.create("ab".repeat(16), "cd".repeat(8), TraceFlags.getSampled(), TraceState.getDefault());

    private static String encoding;
    private static String endpoint;
    private static String compression;
    private static Resource resource;

    public static void main(String[] arguments) {
        encoding = arguments[1];
        endpoint = arguments[2];
        compression = arguments.length > 3 ? arguments[3] : "none";
        resource = Resource.getDefault().merge(Resource.create(Attributes.builder()
                .put("service.name", "java " + arguments[0] + " " + encoding + " " + compression)
                .put("service.version", "1.2.3")
                .put("deployment.environment.name", "test")
                .put("replica", 3)
                .build()));
        String made = switch (arguments[0]) {
            case "traces" -> traces();
            case "logs" -> logs();
            default -> metrics();
        };
        System.out.println(made);
        // The HTTP client's threads would keep the process for a minute.
        System.exit(0);
    }

    private static Attributes everyType() {
        return Attributes.builder()
                .put("string", "text")
                .put("string.empty", "")
                .put("string.long", "long ".repeat(200))
                .put("string.unicode", "é 日本 🙂 \"quoted\" \\ \n\t")
                .put("int", 7L)
                .put("int.most", Long.MAX_VALUE)
                .put("int.least", Long.MIN_VALUE)
                .put("float", 0.1)
                .put("float.tiny", Double.MIN_VALUE)
                .put("bool.true", true)
                .put("bool.false", false)
                .put(AttributeKey.stringArrayKey("strings"), List.of("a", "", "c"))
                .put(AttributeKey.longArrayKey("ints"), List.of(1L, 2L))
                .put(AttributeKey.doubleArrayKey("floats"), List.of(1.5, 2.5))
                .put(AttributeKey.booleanArrayKey("bools"), List.of(true, false))
                .put(AttributeKey.stringArrayKey("empty"), List.of())
                .build();
    }

    private static String traces() {
        SpanExporter exporter = encoding.equals("grpc")
                ? OtlpGrpcSpanExporter.builder().setEndpoint(endpoint).setCompression(compression).build()
                : OtlpHttpSpanExporter.builder().setEndpoint(endpoint).setCompression(compression).build();
        SdkTracerProvider provider = SdkTracerProvider.builder()
                .setResource(resource)
                .addSpanProcessor(BatchSpanProcessor.builder(exporter).build())
                .build();
        Tracer tracer = provider.tracerBuilder("my.library")
                .setInstrumentationVersion("4.5")
                .setSchemaUrl("https://example.org/schema")
                .build();
        Span parent = tracer.spanBuilder("parent").setNoParent().setStartTimestamp(START, NS).startSpan();
        Context inside = Context.root().with(parent);
        Span child = tracer.spanBuilder("child")
                .setParent(inside)
                .setSpanKind(SpanKind.CLIENT)
                .setStartTimestamp(START, NS)
                .setAllAttributes(everyType())
                .addLink(OTHER, Attributes.builder().put("why", "retry").put("try", 2).build())
                .startSpan();
        child.addEvent(
                "happened",
                Attributes.builder()
                        .put("n", 1)
                        .put(AttributeKey.stringArrayKey("list"), List.of("a", "b"))
                        .put("ratio", 2.5)
                        .build(),
                START + 5,
                NS);
        // recordException takes no time, so the event is written as it would be.
        child.addEvent(
                "exception",
                Attributes.builder()
                        .put("exception.type", "TypeError")
                        .put("exception.message", "no such order")
                        .build(),
                START + 9,
                NS);
        child.setStatus(StatusCode.ERROR, "it failed");
        child.end(START + 1000, NS);
        for (int step = 0; step < 300; step++) {
            tracer.spanBuilder("step " + step)
                    .setParent(inside)
                    .setStartTimestamp(START + step, NS)
                    .startSpan()
                    .end(START + step + 1, NS);
        }
        parent.end(START + 2000, NS);
        provider.forceFlush().join(20, TimeUnit.SECONDS);
        provider.shutdown().join(20, TimeUnit.SECONDS);
        return String.format(
                "{\"trace_id\":\"%s\",\"span_id\":\"%s\",\"parent_span_id\":\"%s\",\"spans\":302}",
                child.getSpanContext().getTraceId(),
                child.getSpanContext().getSpanId(),
                parent.getSpanContext().getSpanId());
    }

    private static String logs() {
        LogRecordExporter exporter = encoding.equals("grpc")
                ? OtlpGrpcLogRecordExporter.builder().setEndpoint(endpoint).setCompression(compression).build()
                : OtlpHttpLogRecordExporter.builder().setEndpoint(endpoint).setCompression(compression).build();
        SdkLoggerProvider provider = SdkLoggerProvider.builder()
                .setResource(resource)
                .addLogRecordProcessor(BatchLogRecordProcessor.builder(exporter).build())
                .build();
        Logger logger = provider.loggerBuilder("my.library").setInstrumentationVersion("4.5").build();
        Context associated = Context.root().with(Span.wrap(OTHER));
        logger.logRecordBuilder()
                .setContext(associated)
                .setTimestamp(START + 1, NS)
                .setSeverity(Severity.WARN)
                .setSeverityText("WARN")
                .setBody("careful")
                .setAllAttributes(Attributes.builder()
                        .put("string", "text")
                        .put("int", 7)
                        .put("float", 0.5)
                        .put("bool", true)
                        .put(AttributeKey.stringArrayKey("strings"), List.of("a", "b"))
                        .put(
                                AttributeKey.valueKey("nested"),
                                Value.of(Map.of(
                                        "deep", Value.of(Value.of(1), Value.of(Map.of("x", Value.of("y")))))))
                        .build())
                .emit();
        logger.logRecordBuilder()
                .setContext(associated)
                .setTimestamp(START + 2, NS)
                .setEventName("gen_ai.client.inference.operation.details")
                .setBody(Value.of(Map.of(
                        "role", Value.of("user"),
                        "parts", Value.of(Value.of(
                                Map.of("type", Value.of("text"), "n", Value.of(1)))))))
                .emit();
        for (int number = 0; number < 300; number++) {
            logger.logRecordBuilder()
                    .setTimestamp(START + 1000 + number, NS)
                    .setSeverity(Severity.INFO)
                    .setBody("line " + number)
                    .emit();
        }
        provider.forceFlush().join(20, TimeUnit.SECONDS);
        provider.shutdown().join(20, TimeUnit.SECONDS);
        return String.format(
                "{\"trace_id\":\"%s\",\"span_id\":\"%s\",\"logs\":302}", OTHER.getTraceId(), OTHER.getSpanId());
    }

    private static String metrics() {
        MetricExporter exporter = encoding.equals("grpc")
                ? OtlpGrpcMetricExporter.builder().setEndpoint(endpoint).setCompression(compression).build()
                : OtlpHttpMetricExporter.builder().setEndpoint(endpoint).setCompression(compression).build();
        SdkMeterProvider provider = SdkMeterProvider.builder()
                .setResource(resource)
                .registerView(
                        InstrumentSelector.builder().setName("exponential").build(),
                        View.builder().setAggregation(Aggregation.base2ExponentialBucketHistogram()).build())
                .registerMetricReader(
                        PeriodicMetricReader.builder(exporter).setInterval(Duration.ofHours(1)).build())
                .build();
        Meter meter = provider.meterBuilder("my.library").setInstrumentationVersion("4.5").build();
        AttributeKey<String> model = AttributeKey.stringKey("model");
        LongCounter counter =
                meter.counterBuilder("counter").setUnit("{call}").setDescription("Calls.").build();
        counter.add(3, Attributes.of(model, "a"));
        counter.add(4, Attributes.of(model, "b"));
        meter.upDownCounterBuilder("level").setUnit("By").build().add(-5);
        meter.gaugeBuilder("gauge").setUnit("s").buildWithCallback(
                gauge -> gauge.record(0.25, Attributes.of(model, "a")));
        DoubleHistogram histogram = meter.histogramBuilder("histogram")
                .setUnit("s")
                .setDescription("Durations.")
                .setExplicitBucketBoundariesAdvice(List.of(0.1, 1.0, 10.0))
                .build();
        DoubleHistogram exponential = meter.histogramBuilder("exponential").setUnit("s").build();
        for (double value : new double[] {0.05, 0.5, 5, 50}) {
            histogram.record(value, Attributes.of(model, "a"));
            exponential.record(value, Attributes.of(model, "a"));
        }
        // This exports, once.
        provider.shutdown().join(20, TimeUnit.SECONDS);
        return "{\"points\":6}";
    }

    private Send() {}
}
