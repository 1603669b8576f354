// The Vercel AI SDK with @ai-sdk/otel, in its current form or, with LEGACY=1, in the one of versions 3 to 6.
import { readFileSync } from 'node:fs';
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { LegacyOpenTelemetry, OpenTelemetry } from '@ai-sdk/otel';
import { context, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';
import { embedMany, generateText, jsonSchema, registerTelemetry, stepCountIs, streamText, tool } from 'ai';

const story = JSON.parse(readFileSync(process.env.STORY, 'utf8'));
const baseURL = `${process.env.PROVIDER_URL}/v1`;

const exporter = new OTLPTraceExporter();
const resource = resourceFromAttributes({ 'service.name': process.env.OTEL_SERVICE_NAME });
const provider = new TracerProvider({ resource, spanProcessors: [new BatchSpanProcessor({ exporter })] });
trace.setGlobalTracerProvider(provider);
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
registerTelemetry(process.env.LEGACY ? new LegacyOpenTelemetry() : new OpenTelemetry());

const weather = tool({
  description: story.tool.description,
  inputSchema: jsonSchema(story.tool.parameters),
  execute: async () => story.tool.result,
});

function ask(model, scenario, more = {}) {
  const { system, turns } = story.scenarios[scenario];
  const asked = more.messages ? {} : { prompt: turns[0].question };
  return { model, instructions: system, ...asked, maxRetries: 0, telemetry: { functionId: `${scenario}_agent` }, ...more };
}

async function tell(model, reasoner, providerOptions) {
  await generateText(ask(model, 'plain'));
  for await (const _ of streamText(ask(model, 'stream')).textStream);
  await generateText(ask(model, 'tool', { tools: { get_weather: weather }, stopWhen: stepCountIs(3) }));
  await generateText(ask(reasoner, 'cached', { providerOptions }));
  const messages = [];
  for (const { question } of story.scenarios.conversation.turns) {
    messages.push({ role: 'user', content: question });
    const about = { sessionId: story.session, userId: story.user };
    const { text } = await generateText(ask(model, 'conversation', {
      messages,
      runtimeContext: about,
      telemetry: { functionId: 'conversation_agent', includeRuntimeContext: { sessionId: true, userId: true } },
    }));
    messages.push({ role: 'assistant', content: text });
  }
  for (const scenario of ['rate_limited', 'broken', 'refused']) {
    await generateText(ask(model, scenario)).catch(() => {});
  }
}

const openai = createOpenAI({ baseURL });
const anthropic = createAnthropic({ baseURL });
await tell(openai.chat('gpt-4.1-mini'), openai.chat('o4-mini'));
await tell(openai.responses('gpt-4.1-mini'), openai.responses('o4-mini'), { openai: { reasoningSummary: 'auto' } });
const claude = anthropic('claude-sonnet-4-5');
await tell(claude, claude, { anthropic: { thinking: { type: 'enabled', budgetTokens: 1024 } } });
await embedMany({ model: openai.embedding('text-embedding-3-small'), values: story.scenarios.retrieval.documents });
await provider.forceFlush();
await provider.shutdown();
