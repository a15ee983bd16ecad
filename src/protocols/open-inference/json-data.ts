/** Owns the reading of a tensor's `data` as JSON: flat or nested lists into one typed array. Pure. */
import { PapillonError } from '../../errors.js';
import type { Datatype, NumericArray } from '../../types.js';
import { arrayConstructor, BIG_INTEGER_RANGES, INTEGER_RANGES } from './datatypes.js';
import type { NumericDatatype } from './datatypes.js';
import { toHalfBits } from './float16.js';
import type { JsonValue } from './json.js';
import { quote, showShape } from './text.js';

type Write = (value: JsonValue | undefined, index: number) => void;

/** What the elements of a tensor are read into, and how. */
interface Sink {
  readonly data: NumericArray | string[];
  readonly write: Write;
}

function nounFor(value: JsonValue | undefined): string {
  if (Array.isArray(value)) return 'a list';
  if (value === null) return 'null';
  if (typeof value === 'object') return 'an object';
  return typeof value === 'string' ? 'a string' : String(value);
}

function wrongElement(
  name: string,
  index: number,
  expected: string,
  value: JsonValue | undefined,
): PapillonError {
  if (Array.isArray(value)) {
    return new PapillonError(
      'WRONG_SHAPE',
      `Input ${quote(name)}: element ${index} of data is a list; data must be flat or nested exactly like shape`,
    );
  }
  return new PapillonError(
    'WRONG_DATA',
    `Input ${quote(name)}: element ${index} must be ${expected}, found ${nounFor(value)}`,
  );
}

function outOfRange(
  name: string,
  index: number,
  datatype: Datatype,
  value: number | bigint | string,
): PapillonError {
  return new PapillonError(
    'VALUE_OUT_OF_RANGE',
    `Input ${quote(name)}: element ${index} (${String(value)}) does not fit ${datatype}`,
  );
}

function boolSink(name: string, count: number): Sink {
  const data = new Uint8Array(count);
  return {
    data,
    write(value, index) {
      if (typeof value !== 'boolean') throw wrongElement(name, index, 'true or false', value);
      data[index] = value ? 1 : 0;
    },
  };
}

function integerSink(name: string, datatype: keyof typeof INTEGER_RANGES, count: number): Sink {
  const data = new (arrayConstructor(datatype))(count) as Int32Array;
  const [lowest, highest] = INTEGER_RANGES[datatype];
  return {
    data,
    write(value, index) {
      if (typeof value === 'bigint') throw outOfRange(name, index, datatype, value);
      if (typeof value !== 'number' || !Number.isInteger(value)) {
        throw wrongElement(name, index, 'a whole number', value);
      }
      if (value < lowest || value > highest) throw outOfRange(name, index, datatype, value);
      data[index] = value;
    },
  };
}

function bigIntegerSink(name: string, datatype: keyof typeof BIG_INTEGER_RANGES, count: number): Sink {
  const data = new (arrayConstructor(datatype))(count) as BigInt64Array;
  const [lowest, highest] = BIG_INTEGER_RANGES[datatype];
  return {
    data,
    write(value, index) {
      if (typeof value === 'number') {
        if (!Number.isInteger(value)) throw wrongElement(name, index, 'a whole number', value);
        if (!Number.isSafeInteger(value)) {
          // Written with a point or an exponent: its last digits are already lost.
          throw outOfRange(name, index, datatype, `${value}, write it in plain digits`);
        }
      } else if (typeof value !== 'bigint') {
        throw wrongElement(name, index, 'a whole number', value);
      }
      const integer = BigInt(value);
      if (integer < lowest || integer > highest) throw outOfRange(name, index, datatype, value);
      data[index] = integer;
    },
  };
}

/** Finite numbers only; what would become infinite in the narrower type is refused. */
function floatSink(name: string, datatype: 'FP16' | 'FP32' | 'FP64', count: number): Sink {
  const data = new (arrayConstructor(datatype))(count) as Float64Array;
  const half = datatype === 'FP16';
  return {
    data,
    write(value, index) {
      const number = typeof value === 'bigint' ? Number(value) : value;
      if (typeof number !== 'number') throw wrongElement(name, index, 'a number', value);
      data[index] = half ? toHalfBits(number) : number;
      const fits = half ? Math.abs(number) < 65520 : Number.isFinite(data[index]);
      if (!fits) throw outOfRange(name, index, datatype, number);
    },
  };
}

function bytesSink(name: string, count: number): Sink {
  const data = new Array<string>(count);
  return {
    data,
    write(value, index) {
      if (typeof value !== 'string') throw wrongElement(name, index, 'a string', value);
      data[index] = value;
    },
  };
}

function sinkFor(name: string, datatype: Datatype, count: number): Sink {
  const numeric = (type: NumericDatatype): Sink => {
    switch (type) {
      case 'BOOL':
        return boolSink(name, count);
      case 'INT64':
      case 'UINT64':
        return bigIntegerSink(name, type, count);
      case 'FP16':
      case 'FP32':
      case 'FP64':
        return floatSink(name, type, count);
      default:
        return integerSink(name, type, count);
    }
  };
  return datatype === 'BYTES' ? bytesSink(name, count) : numeric(datatype);
}

interface Walk {
  readonly name: string;
  readonly shape: readonly number[];
  readonly write: Write;
}

/** Writes `data`, the sub-tensor of `axis` and later axes that starts at `offset`; returns where it ends. */
function writeNested(walk: Walk, data: JsonValue | undefined, axis: number, offset: number): number {
  const size = walk.shape[axis];
  if (!Array.isArray(data) || data.length !== size) {
    const found = Array.isArray(data) ? `${data.length}` : 'no list';
    throw new PapillonError(
      'WRONG_SHAPE',
      `Input ${quote(walk.name)}: data is ragged; shape ${showShape(walk.shape)} asks for lists of ${size} ` +
        `on axis ${axis}, found ${found}`,
    );
  }
  const list = data as readonly JsonValue[];
  let end = offset;
  if (axis === walk.shape.length - 1) {
    for (const value of list) walk.write(value, end++);
  } else {
    for (const inner of list) end = writeNested(walk, inner, axis + 1, end);
  }
  return end;
}

/**
 * Elements of `data` in row-major order; `count` is the product of `shape` and already known to be a sane
 * size. Throws WRONG_SHAPE (ragged, or another number of elements), WRONG_DATA, VALUE_OUT_OF_RANGE.
 */
export function decodeJsonData(
  input: { readonly name: string; readonly datatype: Datatype; readonly shape: readonly number[] },
  count: number,
  data: JsonValue,
): NumericArray | readonly string[] {
  const { name, datatype, shape } = input;
  if (!Array.isArray(data)) {
    throw new PapillonError('WRONG_DATA', `Input ${quote(name)}: data must be a list`);
  }
  const list = data as readonly JsonValue[];
  const nested = shape.length > 1 && Array.isArray(list[0]);
  if (!nested && list.length !== count) {
    throw new PapillonError(
      'WRONG_SHAPE',
      `Input ${quote(name)}: shape ${showShape(shape)} has ${count} elements, data has ${list.length}`,
    );
  }
  const sink = sinkFor(name, datatype, count);
  if (nested) writeNested({ name, shape, write: sink.write }, list, 0, 0);
  else for (let index = 0; index < count; index++) sink.write(list[index], index);
  return sink.data;
}
