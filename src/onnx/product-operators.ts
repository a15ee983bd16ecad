/** The operators of an optimised graph that multiply activations by a frozen matrix, and what passes must know of them. */

export interface ProductOperator {
  /** Index of the input that is a bias inside the operator, or null. */
  readonly biasInput: number | null;
  /** The frozen weight is integers with scales. */
  readonly quantised: boolean;
}

export const PRODUCT_OPERATORS: Readonly<Partial<Record<string, ProductOperator>>> = {
  MatMul: { biasInput: null, quantised: false },
  Gemm: { biasInput: 2, quantised: false },
  FusedGemm: { biasInput: 2, quantised: false },
  MatMulNBits: { biasInput: 5, quantised: true },
  DynamicQuantizeMatMul: { biasInput: 4, quantised: true },
  MatMulIntegerToFloat: { biasInput: 6, quantised: true },
};
