/** Owns damage: what disks, networks and enemies do to bytes. */
import fc from 'fast-check';

/** A place as a fraction of what is there: mutations apply one after another to bytes of changing length. */
const place = fc.noBias(fc.nat(2 ** 30 - 1)).map((part) => part / 2 ** 30);

/** Eight bytes that mean something to somebody: lengths, offsets, floats at their limits. */
const WORDS: readonly Buffer[] = [
  0n,
  1n,
  0xffn,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_ffffn,
  2n ** 40n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
  // float32 pairs: NaN, infinity, the largest, the smallest.
  0x7fc0_0000_7fc0_0000n,
  0x7f80_0000_ff80_0000n,
  0x7f7f_ffff_7f7f_ffffn,
  0x0000_0001_0000_0001n,
].map((value) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
});

type Mutation = (bytes: Buffer) => Buffer;

function at(bytes: Buffer, where: number): number {
  return Math.floor(where * bytes.length);
}

const flip = fc.tuple(place, fc.nat(7)).map(([where, bit]) => (bytes: Buffer): Buffer => {
  const copy = Buffer.from(bytes);
  if (copy.length > 0) copy[at(copy, where)] = (copy[at(copy, where)] ?? 0) ^ (1 << bit);
  return copy;
});

const truncate = place.map(
  (where): Mutation =>
    (bytes) =>
      bytes.subarray(0, at(bytes, where)),
);

const overwrite = fc
  .tuple(place, fc.constantFrom(...WORDS), fc.nat(7))
  .map(([where, word, shorter]): Mutation => (bytes) => {
    const copy = Buffer.from(bytes);
    word.copy(copy, at(copy, where), 0, 8 - shorter);
    return copy;
  });

const insert = fc
  .tuple(place, fc.uint8Array({ minLength: 1, maxLength: 40 }))
  .map(([where, more]): Mutation => (bytes) => {
    const position = at(bytes, where);
    return Buffer.concat([bytes.subarray(0, position), more, bytes.subarray(position)]);
  });

const remove = fc.tuple(place, fc.integer({ min: 1, max: 64 })).map(([where, count]): Mutation => (bytes) => {
  const position = at(bytes, where);
  return Buffer.concat([bytes.subarray(0, position), bytes.subarray(position + count)]);
});

/** One range of bytes over another: swapped offsets, repeated fields. */
const repeat = fc
  .tuple(place, place, fc.integer({ min: 1, max: 64 }))
  .map(([from, to, count]): Mutation => (bytes) => {
    const copy = Buffer.from(bytes);
    bytes.copy(copy, at(bytes, to), at(bytes, from), Math.min(at(bytes, from) + count, bytes.length));
    return copy;
  });

const once: fc.Arbitrary<Mutation> = fc.oneof(
  { arbitrary: flip, weight: 8 },
  { arbitrary: overwrite, weight: 2 },
  truncate,
  insert,
  remove,
  repeat,
);

/** One to three of them, one after another. */
export const damage: fc.Arbitrary<Mutation> = fc
  .array(once, { minLength: 1, maxLength: 3 })
  .map((mutations) => (bytes) => mutations.reduce((current, mutate) => mutate(current), bytes));

/** Damage to the first `length` bytes of a file alone, where its structure is. */
export function damageHead(bytes: Buffer, length: number, mutate: Mutation): Buffer {
  return Buffer.concat([mutate(bytes.subarray(0, length)), bytes.subarray(length)]);
}
