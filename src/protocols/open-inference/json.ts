/**
 * Owns the reading of JSON bodies. Whole numbers beyond 2^53 come out as `bigint` with all their digits:
 * JSON.parse checks every body, and only a body that holds so long a number is read a second time.
 */
import { isUtf8 } from 'node:buffer';
import { PapillonError } from '../../errors.js';

export interface JsonObject {
  readonly [key: string]: JsonValue;
}
export type JsonValue = null | boolean | number | bigint | string | readonly JsonValue[] | JsonObject;

/** Deeper nesting than any request needs; bounds the recursion of the second reading. */
const MAX_DEPTH = 64;
/** Sixteen digits that are not the fraction of a number: 2^53 has sixteen. */
const LONG_INTEGER = /(?<![\d.])\d{16}/;
/** Characters of the longest 64-bit integer, with some to spare; longer numbers fit no integer type anyway. */
const LONGEST_INTEGER = 24;

export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Own property or undefined: a key such as `__proto__` or `toString` never reaches the prototype. */
export function field(object: JsonObject, key: string): JsonValue | undefined {
  return Object.hasOwn(object, key) ? object[key] : undefined;
}

/** Throws INVALID_JSON for what is not UTF-8 or not JSON. */
export function parseJson(bytes: Uint8Array): JsonValue {
  if (!isUtf8(bytes)) throw new PapillonError('INVALID_JSON', 'The body is not valid UTF-8');
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
  let value: JsonValue;
  try {
    value = JSON.parse(text) as JsonValue;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new PapillonError('INVALID_JSON', `The body is not valid JSON: ${reason}`);
  }
  return LONG_INTEGER.test(text) ? new ExactReader(text).read() : value;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Reads text that JSON.parse has accepted, so it need not look for faults. */
class ExactReader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  read(depth = 0): JsonValue {
    if (depth > MAX_DEPTH) {
      throw new PapillonError('INVALID_REQUEST', `The body is nested deeper than ${MAX_DEPTH} levels`);
    }
    this.#skipSpace();
    switch (this.#text[this.#at]) {
      case '{':
        return this.#object(depth);
      case '[':
        return this.#array(depth);
      case '"':
        return this.#string();
      case 't':
        this.#at += 4;
        return true;
      case 'f':
        this.#at += 5;
        return false;
      case 'n':
        this.#at += 4;
        return null;
      default:
        return this.#number();
    }
  }

  #skipSpace(): void {
    while (this.#text.charCodeAt(this.#at) <= 0x20) this.#at += 1;
  }

  /** Steps over a comma, or over `close`, which ends the list. */
  #ends(close: string): boolean {
    this.#skipSpace();
    const character = this.#text[this.#at];
    if (character === ',' || character === close) this.#at += 1;
    return character === close;
  }

  #object(depth: number): JsonObject {
    const object = Object.create(null) as Record<string, JsonValue>;
    this.#at += 1;
    while (!this.#ends('}')) {
      this.#skipSpace();
      const key = this.#string();
      this.#skipSpace();
      this.#at += 1;
      object[key] = this.read(depth + 1);
    }
    return object;
  }

  #array(depth: number): JsonValue[] {
    const array: JsonValue[] = [];
    this.#at += 1;
    while (!this.#ends(']')) array.push(this.read(depth + 1));
    return array;
  }

  #string(): string {
    const start = this.#at;
    let escaped = false;
    for (this.#at += 1; ; this.#at += 1) {
      const code = this.#text.charCodeAt(this.#at);
      if (code === QUOTE) break;
      if (code === BACKSLASH) {
        escaped = true;
        this.#at += 1;
      }
    }
    this.#at += 1;
    return escaped
      ? (JSON.parse(this.#text.slice(start, this.#at)) as string)
      : this.#text.slice(start + 1, this.#at - 1);
  }

  #number(): number | bigint {
    const start = this.#at;
    let whole = true;
    for (; ; this.#at += 1) {
      const code = this.#text.charCodeAt(this.#at);
      if ((code >= 0x30 && code <= 0x39) || code === 0x2d) continue;
      // '.', 'e', 'E', '+'
      if (code !== 0x2e && code !== 0x65 && code !== 0x45 && code !== 0x2b) break;
      whole = false;
    }
    const token = this.#text.slice(start, this.#at);
    const value = Number(token);
    const exact = whole && token.length <= LONGEST_INTEGER && !Number.isSafeInteger(value);
    return exact ? BigInt(token) : value;
  }
}
