// Tensors as bytes instead of JSON (the protocol's binary extension): node examples/infer-binary.mjs [url [model]]
const [url = 'http://localhost:8080', model = 'globex-cloud'] = process.argv.slice(2);

const [rows, length] = [2, 6];
const tensors = {
  input_ids: new BigInt64Array([2n, 153n, 400n, 96n, 689n, 3n, 2n, 153n, 400n, 3n, 0n, 0n]),
  attention_mask: new BigInt64Array([1n, 1n, 1n, 1n, 1n, 1n, 1n, 1n, 1n, 1n, 0n, 0n]),
  token_type_ids: new BigInt64Array(rows * length),
};
const head = {
  inputs: Object.entries(tensors).map(([name, data]) => ({
    name,
    datatype: 'INT64',
    shape: [rows, length],
    parameters: { binary_data_size: data.byteLength },
  })),
  parameters: { binary_data_output: true },
};

// The body: JSON, then the tensors' bytes in the order of the inputs. A header tells where the JSON ends.
const json = Buffer.from(JSON.stringify(head));
const response = await fetch(`${url}/v2/models/${model}/infer`, {
  method: 'POST',
  headers: {
    'Content-Type': 'application/octet-stream',
    'Inference-Header-Content-Length': String(json.length),
  },
  body: Buffer.concat([json, ...Object.values(tensors).map((data) => new Uint8Array(data.buffer))]),
});
const body = Buffer.from(await response.arrayBuffer());
if (!response.ok) throw new Error(`${response.status}: ${body}`);

const end = Number(response.headers.get('inference-header-content-length'));
const answer = JSON.parse(body.subarray(0, end));
let at = end;
for (const { name, shape, parameters } of answer.outputs) {
  const bytes = body.subarray(at, (at += parameters.binary_data_size));
  const values = new Float32Array(Uint8Array.from(bytes).buffer);
  console.log(
    name,
    shape,
    Array.from(values.subarray(0, 4), (value) => value.toFixed(3)),
  );
}
