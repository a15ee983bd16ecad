/** Damaged model files: what reads them refuses with a code, or finds modules that are sound. */
import assert from 'node:assert/strict';
import { copyFileSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { encodeModel, openModel, tensorBytes, tensorsOf, weightFiles } from '#dist/onnx/model.js';
import type { OnnxModel } from '#dist/onnx/model.js';
import { findModules } from '#dist/onnx/modules.js';
import { readSkeleton } from '#dist/onnx/skeleton.js';
import { ROOT } from '../e2e/server.js';
import { FIELD, bytesField, varint, varintField } from '../onnx/wire.js';
import { at } from '../support/at.js';
import { temporaryFolder } from '../support/temp-folder.js';
import { replaceFile } from './adapters.js';
import { damage, damageHead } from './mutations.js';
import { assertVaried, closed, noOutcomes } from './outcome.js';
import type { Outcomes } from './outcome.js';

const root = temporaryFolder();
const PATH = join(root, 'damaged.onnx');

/** Exports of one model, and a language model whose weights are tied. */
const FILES = ['bert_seqcls/base.onnx', 'bert_seqcls/base_dynamo.onnx', 'llama_tied/base_nofold.onnx'].map(
  (name) => join(ROOT, 'test/golden', name),
);

/** Graphs alone, their weights elsewhere: damage hits structure, and references to weights. */
const GRAPHS = FILES.map((path, i) => {
  const name = `${i}-${basename(path)}`;
  copyFileSync(path, join(root, name));
  return Buffer.from(readSkeleton(path, name));
});

function assertModulesSound(model: OnnxModel): void {
  for (const { name, inFeatures, outFeatures, uses, bias } of findModules(model)) {
    assert.ok(name.length > 0 && uses.length > 0);
    assert.ok(bias === null || bias.length === outFeatures, name);
    for (const size of [inFeatures, outFeatures]) assert.ok(Number.isFinite(size), name);
  }
}

/** Everything that a start does with a file before ONNX Runtime sees it. */
function read(outcomes: Outcomes, bytes: Uint8Array): void {
  replaceFile(PATH, bytes);
  closed(root, outcomes, () => {
    const model = openModel(PATH);
    assertModulesSound(model);
    weightFiles(model);
    encodeModel(model);
  });
}

describe('damaged ONNX files', () => {
  test('graphs with bytes at random', () => {
    const outcomes = noOutcomes();
    fc.assert(
      fc.property(fc.nat(GRAPHS.length - 1), damage, (which, mutate) => {
        read(outcomes, mutate(at(GRAPHS, which)));
      }),
      { numRuns: 1000, seed: 21 },
    );
    assertVaried(outcomes, 1);
  });

  test('whole files: the beginning damaged, or cut off anywhere', () => {
    const outcomes = noOutcomes();
    const files = FILES.map((path) => readFileSync(path));
    const cut = fc.noBias(fc.nat(2 ** 20));
    fc.assert(
      fc.property(fc.nat(files.length - 1), damage, fc.option(cut), (which, mutate, part) => {
        const file = at(files, which);
        const bytes = part === null ? file : file.subarray(0, Math.floor((file.length * part) / 2 ** 20));
        read(outcomes, damageHead(bytes, 8000, mutate));
      }),
      { numRuns: 500, seed: 22 },
    );
    assertVaried(outcomes, 1);
  });

  test('weights that a file declares elsewhere, or larger than anything', () => {
    const sizes = [2 ** 31, 2 ** 33, 2 ** 40, 2 ** 63, -1, 0.5, NaN];
    const locations = [
      'damaged.onnx',
      '../secret',
      '/etc/passwd',
      '.',
      '',
      'no/such',
      'a\u0000b',
      '..',
      './../x',
    ];
    const entries = (values: Readonly<Record<string, unknown>>): Buffer[] =>
      Object.entries(values).map(([key, value]) =>
        bytesField(
          FIELD.tensor.externalData,
          bytesField(FIELD.entry.key, key),
          bytesField(FIELD.entry.value, String(value)),
        ),
      );
    const outcomes = noOutcomes();
    for (const size of sizes) {
      for (const location of locations) {
        for (const values of [
          { location, length: size },
          { location, offset: size },
          { location, offset: 0, length: 8 },
          { location },
        ]) {
          const tensor = bytesField(
            FIELD.graph.initializer,
            varintField(FIELD.tensor.dims, Number.isInteger(size) ? BigInt(size) : 1),
            varintField(FIELD.tensor.dims, 2 ** 20),
            varintField(FIELD.tensor.dataType, 1),
            bytesField(FIELD.tensor.name, 'w'),
            ...entries(values),
            varintField(FIELD.tensor.dataLocation, 1),
          );
          const node = bytesField(FIELD.graph.node, bytesField(FIELD.node.opType, 'Relu'));
          replaceFile(PATH, bytesField(FIELD.model.graph, node, tensor));
          const model = openModel(PATH);
          const weight = at([...tensorsOf(model.graph)]);
          closed(root, outcomes, () => tensorBytes(model, weight));
        }
      }
    }
    assert.deepEqual([...outcomes.refused.keys()], ['BASE_UNREADABLE']);
    // The file itself, from its beginning and within it, is all that can be read.
    assert.equal(outcomes.ok, sizes.length);
  });

  test('lengths beyond the file at every level', () => {
    const outcomes = noOutcomes();
    const lengths = [2 ** 20, 2 ** 31, 2 ** 40, 2n ** 63n, 2n ** 64n - 1n];
    for (const length of lengths) {
      const claim = (field: number): Buffer => Buffer.concat([varint(field * 8 + 2), varint(length)]);
      const graph = FIELD.model.graph;
      const tensor = FIELD.graph.initializer;
      read(outcomes, claim(graph));
      read(outcomes, claim(FIELD.model.opsetImport));
      read(outcomes, bytesField(graph, claim(tensor)));
      read(outcomes, bytesField(graph, claim(FIELD.graph.node)));
      read(outcomes, bytesField(graph, bytesField(tensor, claim(FIELD.tensor.rawData))));
      read(outcomes, bytesField(graph, bytesField(tensor, claim(FIELD.tensor.name))));
    }
    assert.deepEqual([...outcomes.refused], [['BASE_UNREADABLE', 6 * lengths.length]]);
  });

  test('graphs within graphs, as deep as a file can hold them', () => {
    const outcomes = noOutcomes();
    const [attribute, inner] = [5, 6];
    for (const depth of [10, 100, 1000, 3000, 6000]) {
      let graph = bytesField(FIELD.graph.node, bytesField(FIELD.node.opType, 'Relu'));
      for (let level = 0; level < depth; level++) {
        const branch = bytesField(attribute, bytesField(inner, graph));
        graph = bytesField(FIELD.graph.node, bytesField(FIELD.node.opType, 'If'), branch);
      }
      read(outcomes, bytesField(FIELD.model.graph, graph));
    }
    assert.deepEqual([...outcomes.refused.keys()], ['BASE_UNREADABLE']);
    assert.ok(outcomes.ok >= 1);
  });
});
