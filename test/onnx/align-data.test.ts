/** Data files that ONNX Runtime left unaligned: everything is still there, at aligned places. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { alignData } from '#dist/onnx/align-data.js';
import { StringStringEntryProtoSchema, TensorProtoSchema } from '#dist/onnx/gen/onnx_pb.js';
import { externalEntry, openModel, readFloats } from '#dist/onnx/model.js';
import { at } from '../support/at.js';
import { temporaryFolder } from '../support/temp-folder.js';
import {
  ELEM,
  floatTensor,
  makeModel,
  makeNode,
  makeValueInfo,
  randomFloats,
  writeModel,
} from '../support/tiny-models.js';

interface Piece {
  readonly offset: number;
  readonly length: number;
}

/** A model of two external tensors with prepacked blobs at these places of its data file, and one tensor inline. */
function model(folder: string, pieces: readonly [Piece, Piece, Piece, Piece, Piece]): string {
  const [first, packed, packedToo, second, packedLast] = pieces;
  const tensor = (
    name: string,
    { offset, length }: Piece,
    prepacked: string,
  ): ReturnType<typeof floatTensor> =>
    create(TensorProtoSchema, {
      name,
      dims: [BigInt(length / 4)],
      dataType: ELEM.FLOAT,
      dataLocation: 1,
      externalData: Object.entries({
        location: 'base.onnx.data',
        offset: String(offset),
        length: String(length),
        prepacked_0: prepacked,
      }).map(([key, value]) => create(StringStringEntryProtoSchema, { key, value })),
    });
  const part = ({ offset, length }: Piece): string => `${offset};${length};7`;
  return writeModel(
    folder,
    makeModel({
      inputs: [makeValueInfo('x', ELEM.FLOAT, [1])],
      outputs: [makeValueInfo('y', ELEM.FLOAT, [1])],
      nodes: [makeNode('Neg', ['x'], ['y'], { name: 'n' })],
      initializers: [
        tensor('first', first, `MatMul+1|${part(packed)}|${part(packedToo)}`),
        tensor('second', second, `MatMul+2|${part(packedLast)}`),
        floatTensor('inline', [40], randomFloats(3, 40)),
      ],
    }),
    'base.onnx',
  );
}

function blobs(value: string | undefined): Piece[] {
  return (value ?? '')
    .split('|')
    .slice(1)
    .map((blob) => {
      const [offset, length, checksum] = blob.split(';').map(Number);
      assert.equal(checksum, 7);
      return { offset: offset ?? NaN, length: length ?? NaN };
    });
}

describe('alignData', () => {
  it('moves tensors and blobs to multiples of 64 and changes none of their bytes', () => {
    const folder = temporaryFolder();
    const pieces = [
      { offset: 0, length: 144 },
      { offset: 144, length: 100 },
      { offset: 244, length: 52 },
      { offset: 296, length: 200 },
      { offset: 496, length: 64 },
    ] as const;
    const data = new Uint8Array(randomFloats(1, 140).buffer);
    writeFileSync(join(folder, 'base.onnx.data'), data);
    const path = model(folder, [...pieces]);
    alignData(path);

    const aligned = readFileSync(join(folder, 'base.onnx.data'));
    const opened = openModel(path);
    const [first, second, inline] = opened.graph.initializer;
    assert.ok(first && second && inline);
    const places = [first, second].flatMap((tensor) => [
      { offset: Number(externalEntry(tensor, 'offset')), length: Number(externalEntry(tensor, 'length')) },
      ...blobs(externalEntry(tensor, 'prepacked_0')),
    ]);
    assert.equal(places.length, pieces.length);
    let end = 0;
    for (const [i, place] of places.entries()) {
      const original = at(pieces, i);
      assert.equal(place.offset % 64, 0);
      assert.ok(place.offset >= end, 'pieces overlap');
      end = place.offset + place.length;
      assert.equal(place.length, original.length);
      assert.deepEqual(
        new Uint8Array(aligned.subarray(place.offset, end)),
        data.subarray(original.offset, original.offset + original.length),
      );
    }
    assert.ok(externalEntry(first, 'prepacked_0')?.startsWith('MatMul+1|'));
    // It was inline in the graph, whose file was written anew.
    assert.deepEqual(readFloats(opened, inline), randomFloats(3, 40));
  });

  it('leaves an aligned file alone', () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'base.onnx.data'), new Uint8Array(640));
    const path = model(folder, [
      { offset: 4, length: 60 },
      { offset: 64, length: 64 },
      { offset: 128, length: 64 },
      { offset: 200, length: 56 },
      { offset: 256, length: 64 },
    ]);
    const before = readFileSync(path);
    alignData(path);
    assert.deepEqual(readFileSync(path), before);
  });

  it('needs no data file where nothing is external', () => {
    const folder = temporaryFolder();
    const path = writeModel(
      folder,
      makeModel({
        inputs: [makeValueInfo('x', ELEM.FLOAT, [1])],
        outputs: [makeValueInfo('y', ELEM.FLOAT, [1])],
        nodes: [makeNode('Neg', ['x'], ['y'], { name: 'n' })],
      }),
      'base.onnx',
    );
    alignData(path);
    assert.equal(openModel(path).graph.node.length, 1);
  });
});
