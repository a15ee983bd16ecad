/** Requests for the tests to damage: bodies of both protocols, as bytes, and values that their fields should not have. */
import fc from 'fast-check';
import { damage } from './mutations.js';

export interface RawRequest {
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

const JSON_TYPE = { 'Content-Type': 'application/json' };
const LENGTH = 'Inference-Header-Content-Length';
const IDS = [2, 17, 45, 9, 3];
const INPUTS = { input_ids: IDS, attention_mask: IDS.map(() => 1), token_type_ids: IDS.map(() => 0) };

type Json = Record<string, unknown>;

function inferPath(model: string): string {
  return `/v2/models/${encodeURIComponent(model)}/infer`;
}

function jsonInputs(): Json[] {
  return Object.entries(INPUTS).map(([name, data]) => ({
    name,
    shape: [1, IDS.length],
    datatype: 'INT64',
    data,
  }));
}

function binaryRequest(model: string, change: (header: Json) => void): RawRequest {
  const tensors = Object.values(INPUTS).map((data) => Buffer.from(BigInt64Array.from(data, BigInt).buffer));
  const inputs = Object.keys(INPUTS).map((name, i) => ({
    name,
    shape: [1, IDS.length],
    datatype: 'INT64',
    parameters: { binary_data_size: tensors[i]?.byteLength },
  }));
  const header: Json = { inputs, parameters: { binary_data_output: true } };
  change(header);
  const text = Buffer.from(JSON.stringify(header));
  return {
    path: inferPath(model),
    headers: { 'Content-Type': 'application/octet-stream', [LENGTH]: String(text.length) },
    body: Buffer.concat([text, ...tensors]),
  };
}

/** What a field may hold instead. Token ids far outside the vocabulary are among them. */
const values = fc.oneof(
  fc.constantFrom<unknown[]>(
    null,
    true,
    '',
    'INT64',
    'BYTES',
    'FP16',
    [],
    {},
    [[]],
    [[[1]]],
    'x'.repeat(5000),
  ),
  fc.constantFrom(-1, 0, 1, 0.5, 5, 6, 999_999, 2 ** 31, 2 ** 40, 2 ** 53, 1e308, -(2 ** 63)),
  fc.constantFrom([1, 5], [5], [1, 2 ** 40], [2 ** 32, 2 ** 32], [0, 5], [-1, 5], [1, 1, 5], [5, 1]),
  fc.constantFrom([999_999, 1, 1, 1, 1], [-1, -1, -1, -1, -1], ['1'], [1e308], [null], [1, 2, 3, 4, 5, 6]),
  fc.jsonValue({ maxDepth: 2 }),
);

const fields = ['name', 'shape', 'datatype', 'data', 'parameters', '__proto__', 'binary_data_size'];

/** Puts a value into an input, its parameters, or the request. */
const change = fc
  .tuple(fc.nat(3), fc.constantFrom(...fields), values)
  .map(([which, field, value]) => (body: Json): void => {
    const inputs = body.inputs as Json[];
    const target: unknown = inputs[which] ?? body;
    const holder = field === 'binary_data_size' ? (target as Json | null)?.parameters : target;
    // An earlier change may have put something else in its place.
    if (typeof holder !== 'object' || holder === null) return;
    Object.defineProperty(holder, field, { value, enumerable: true, configurable: true, writable: true });
  });

const requestFields = fc
  .tuple(fc.constantFrom('inputs', 'outputs', 'id', 'parameters', 'model'), values)
  .map(([field, value]) => (body: Json): void => {
    body[field] = value;
  });

const changes = fc.array(fc.oneof({ arbitrary: change, weight: 4 }, requestFields), {
  minLength: 1,
  maxLength: 2,
});

function applied(body: Json, list: readonly ((body: Json) => void)[]): Json {
  // The last one may replace the inputs that others change.
  for (const apply of list) if (Array.isArray(body.inputs)) apply(body);
  return body;
}

const adapters = fc.constantFrom(
  ...[
    'demo-router',
    'acme-retail',
    'victim-1',
    'victim-2',
    'acme-retail+globex-cloud',
    'nobody',
    '..',
    'a+',
    '\u0000',
  ],
);

const jsonChanged = fc.tuple(adapters, changes).map(([model, list]): RawRequest => ({
  path: inferPath(model),
  headers: JSON_TYPE,
  body: Buffer.from(JSON.stringify(applied({ inputs: jsonInputs() }, list))),
}));

const binaryChanged = fc.tuple(adapters, changes).map(([model, list]) =>
  binaryRequest(model, (header) => {
    applied(header, list);
  }),
);

const classifyChanged = fc
  .tuple(adapters, fc.constantFrom('input', 'model', 'top_k', 'parameters', '__proto__'), values)
  .map(([model, field, value]): RawRequest => {
    const body: Json = { model, input: ['where is my parcel', 'refund please'] };
    Object.defineProperty(body, field, { value, enumerable: true });
    return { path: '/v1/classify', headers: JSON_TYPE, body: Buffer.from(JSON.stringify(body)) };
  });

const undamaged = fc.oneof(
  adapters.map((model) => binaryRequest(model, () => undefined)),
  adapters.map((model): RawRequest => ({
    path: inferPath(model),
    headers: JSON_TYPE,
    body: Buffer.from(JSON.stringify({ inputs: jsonInputs() })),
  })),
);

const damaged = fc
  .tuple(undamaged, damage)
  .map(([request, mutate]): RawRequest => ({ ...request, body: mutate(Buffer.from(request.body)) }));

const headerLied = fc
  .tuple(
    adapters,
    fc.constantFrom('0', '-1', '1', '99999999', '1e3', 'x', '', '9007199254740993', '0x10'),
    fc.constantFrom(
      {},
      { 'Content-Encoding': 'gzip' },
      { 'Content-Encoding': 'br' },
      { 'X-Adapter-Id': 'a,b' },
    ),
  )
  .map(([model, length, more]): RawRequest => {
    const request = binaryRequest(model, () => undefined);
    return {
      ...request,
      headers: { ...request.headers, [LENGTH]: length, ...(more as Record<string, string>) },
    };
  });

/** A request with something wrong about it; now and then nothing is. */
export const request: fc.Arbitrary<RawRequest> = fc.oneof(
  { arbitrary: jsonChanged, weight: 3 },
  { arbitrary: binaryChanged, weight: 3 },
  { arbitrary: damaged, weight: 3 },
  { arbitrary: classifyChanged, weight: 2 },
  headerLied,
);
