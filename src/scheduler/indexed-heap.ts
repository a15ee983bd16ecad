/**
 * A binary heap from which any element can be removed: O(log n) for push, pop and delete, O(1) for peek.
 * Knows nothing of requests; the queues of this folder differ only in what they order by.
 */
export class IndexedHeap<T> {
  readonly #before: (a: T, b: T) => boolean;
  readonly #items: T[] = [];
  readonly #slots = new Map<T, number>();

  /** `before(a, b)`: a leaves the heap earlier than b. Must not change for elements that are inside. */
  constructor(before: (a: T, b: T) => boolean) {
    this.#before = before;
  }

  get size(): number {
    return this.#items.length;
  }

  has(item: T): boolean {
    return this.#slots.has(item);
  }

  peek(): T | undefined {
    return this.#items[0];
  }

  /** An element that is inside already stays as it is. */
  push(item: T): void {
    if (this.#slots.has(item)) return;
    this.#items.push(item);
    this.#rise(this.#items.length - 1, item);
  }

  pop(): T | undefined {
    const first = this.#items[0];
    if (first !== undefined) this.delete(first);
    return first;
  }

  delete(item: T): boolean {
    const slot = this.#slots.get(item);
    if (slot === undefined) return false;
    this.#slots.delete(item);
    const last = this.#items.pop();
    if (last !== undefined && slot < this.#items.length) this.#sink(this.#rise(slot, last), last);
    return true;
  }

  /** Returns where the item came to rest. */
  #rise(from: number, item: T): number {
    let slot = from;
    while (slot > 0) {
      const parentSlot = (slot - 1) >> 1;
      const parent = this.#items[parentSlot] as T;
      if (!this.#before(item, parent)) break;
      this.#place(slot, parent);
      slot = parentSlot;
    }
    this.#place(slot, item);
    return slot;
  }

  #sink(from: number, item: T): void {
    const size = this.#items.length;
    let slot = from;
    for (;;) {
      let childSlot = 2 * slot + 1;
      if (childSlot >= size) break;
      if (
        childSlot + 1 < size &&
        this.#before(this.#items[childSlot + 1] as T, this.#items[childSlot] as T)
      ) {
        childSlot += 1;
      }
      const child = this.#items[childSlot] as T;
      if (!this.#before(child, item)) break;
      this.#place(slot, child);
      slot = childSlot;
    }
    this.#place(slot, item);
  }

  #place(slot: number, item: T): void {
    this.#items[slot] = item;
    this.#slots.set(item, slot);
  }
}
