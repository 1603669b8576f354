// Sends a fixed story with OpenTelemetry's JavaScript SDK and its own exporters, and prints what it made as JSON.
//   node send.mjs MODULES SIGNAL ENCODING ENDPOINT [gzip]     SIGNAL: traces, logs, metrics; ENCODING: grpc, proto, json
import { createRequire } from 'node:module';

const [modules, signal, encoding, endpoint, compression = 'none'] = process.argv.slice(2);
const load = createRequire(`${modules}/package.json`);
const { DiagConsoleLogger, DiagLogLevel, SpanKind, SpanStatusCode, TraceFlags, ValueType, context, diag, trace } = load(
  '@opentelemetry/api',
);
diag.setLogger(new DiagConsoleLogger(), DiagLogLevel.WARN);
const { resourceFromAttributes, defaultResource } = load('@opentelemetry/resources');

const PACKAGE = { grpc: 'grpc', proto: 'proto', json: 'http' }[encoding];
const exporterOf = (what) => load(`@opentelemetry/exporter-${what}-otlp-${PACKAGE}`);
const options = { url: endpoint, compression };
const START = 1_790_000_000n * 1_000_000_000n;
const at = (ns) => { const t = START + BigInt(ns); return [Number(t / 1_000_000_000n), Number(t % 1_000_000_000n)]; };

const resource = defaultResource().merge(resourceFromAttributes({
  'service.name': `js ${signal} ${encoding} ${compression}`,
  'service.version': '1.2.3',
  'deployment.environment.name': 'test',
  replica: 3,
}));

const ATTRIBUTES = {
  string: 'text',
  'string.empty': '',
  'string.long': 'long '.repeat(200),
  'string.unicode': 'é 日本 🙂 "quoted" \\ \n\t',
  int: 7,
  'int.most': Number.MAX_SAFE_INTEGER,
  'int.least': Number.MIN_SAFE_INTEGER,
  float: 0.1,
  'float.tiny': 5e-324,
  'bool.true': true,
  'bool.false': false,
  strings: ['a', '', 'c'],
  ints: [1, 2],
  floats: [1.5, 2.5],
  bools: [true, false],
  empty: [],
};

async function traces() {
  const { TracerProvider, BatchSpanProcessor } = load('@opentelemetry/sdk-trace');
  const { OTLPTraceExporter } = exporterOf('trace');
  const provider = new TracerProvider({
    resource, spanProcessors: [new BatchSpanProcessor({ exporter: new OTLPTraceExporter(options) })],
  });
  const tracer = provider.getTracer('my.library', '4.5', { schemaUrl: 'https://example.org/schema' });
  const parent = tracer.startSpan('parent', { startTime: at(0) });
  const inside = trace.setSpan(context.active(), parent);
  const other = { traceId: 'ab'.repeat(16), spanId: 'cd'.repeat(8), traceFlags: TraceFlags.SAMPLED };
  const child = tracer.startSpan('child', {
    kind: SpanKind.CLIENT,
    startTime: at(0),
    attributes: ATTRIBUTES,
    links: [{ context: other, attributes: { why: 'retry', try: 2 } }],
  }, inside);
  child.addEvent('happened', { n: 1, list: ['a', 'b'], ratio: 2.5 }, at(5));
  child.recordException(new TypeError('no such order'), at(9));
  child.setStatus({ code: SpanStatusCode.ERROR, message: 'it failed' });
  child.end(at(1000));
  for (let step = 0; step < 300; step += 1) {
    tracer.startSpan(`step ${step}`, { startTime: at(step) }, inside).end(at(step + 1));
  }
  parent.end(at(2000));
  await provider.forceFlush();
  await provider.shutdown();
  const ids = child.spanContext();
  return { trace_id: ids.traceId, span_id: ids.spanId, parent_span_id: parent.spanContext().spanId, spans: 302 };
}

async function logs() {
  const { SeverityNumber } = load('@opentelemetry/api-logs');
  const { LoggerProvider, BatchLogRecordProcessor } = load('@opentelemetry/sdk-logs');
  const { OTLPLogExporter } = exporterOf('logs');
  const processor = new BatchLogRecordProcessor({ exporter: new OTLPLogExporter(options) });
  const provider = new LoggerProvider({ resource, processors: [processor] });
  const logger = provider.getLogger('my.library', '4.5');
  const ids = { traceId: 'ab'.repeat(16), spanId: 'cd'.repeat(8), traceFlags: TraceFlags.SAMPLED };
  const associated = trace.setSpanContext(context.active(), ids);
  logger.emit({
    timestamp: at(1), severityNumber: SeverityNumber.WARN, severityText: 'WARN', body: 'careful',
    attributes: { string: 'text', int: 7, float: 0.5, bool: true, strings: ['a', 'b'], nested: { deep: [1, { x: 'y' }] } },
    context: associated,
  });
  logger.emit({
    timestamp: at(2), eventName: 'gen_ai.client.inference.operation.details',
    body: { role: 'user', parts: [{ type: 'text', n: 1 }] }, attributes: {}, context: associated,
  });
  for (let number = 0; number < 300; number += 1) {
    logger.emit({ timestamp: at(1000 + number), severityNumber: SeverityNumber.INFO, body: `line ${number}` });
  }
  await provider.forceFlush();
  await provider.shutdown();
  return { trace_id: ids.traceId, span_id: ids.spanId, logs: 302 };
}

async function metrics() {
  const { AggregationType, MeterProvider, PeriodicExportingMetricReader } = load('@opentelemetry/sdk-metrics');
  const { OTLPMetricExporter } = exporterOf('metrics');
  const reader = new PeriodicExportingMetricReader({
    exporter: new OTLPMetricExporter(options), exportIntervalMillis: 3_600_000, exportTimeoutMillis: 10_000,
  });
  const provider = new MeterProvider({
    resource,
    readers: [reader],
    views: [{ instrumentName: 'exponential', aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM } }],
  });
  const meter = provider.getMeter('my.library', '4.5');
  const counter = meter.createCounter('counter', { unit: '{call}', description: 'Calls.', valueType: ValueType.INT });
  counter.add(3, { model: 'a' });
  counter.add(4, { model: 'b' });
  meter.createUpDownCounter('level', { unit: 'By', valueType: ValueType.INT }).add(-5);
  meter.createObservableGauge('gauge', { unit: 's' }).addCallback((result) => result.observe(0.25, { model: 'a' }));
  const histogram = meter.createHistogram('histogram', {
    unit: 's', description: 'Durations.', advice: { explicitBucketBoundaries: [0.1, 1, 10] },
  });
  const exponential = meter.createHistogram('exponential', { unit: 's' });
  for (const value of [0.05, 0.5, 5, 50]) {
    histogram.record(value, { model: 'a' });
    exponential.record(value, { model: 'a' });
  }
  // This exports, once.
  await provider.shutdown();
  return { points: 6 };
}

const made = await { traces, logs, metrics }[signal]();
console.log(JSON.stringify(made));
