/** LiteRT in WebAssembly: a model's signatures, called with arrays by name. */

import { type CompiledModel, type LiteRt, Tensor, loadAndCompile, loadLiteRt } from '@litertjs/core';

export interface Values {
  data: Float32Array | Int32Array;
  shape: number[];
}

let loading: Promise<LiteRt> | undefined;

/** Loads the WebAssembly, once, from the page's own origin. */
export function loadEngine(): Promise<LiteRt> {
  loading ??= load().catch((error) => {
    loading = undefined; // may be tried again
    throw error;
  });
  return loading;
}

async function load(): Promise<LiteRt> {
  const silent = () => {};
  // It announces itself on the console as if these were errors; what goes wrong is thrown as well.
  Object.assign(globalThis, { Module: { print: silent, printErr: silent } });
  const runtime = await loadLiteRt(new URL('wasm/', document.baseURI).href);
  // The wrapper takes the -1 of an input of any length for a length, and refuses all others;
  // LiteRT itself resizes the input to what comes.
  Object.assign(runtime.liteRtWasm, { checkTensorBufferCompatible: silent });
  return runtime;
}

export class Engine {
  private constructor(private readonly model: CompiledModel) {}

  static async open(flatbuffer: Uint8Array): Promise<Engine> {
    await loadEngine();
    return new Engine(await loadAndCompile(flatbuffer, { accelerator: 'wasm' }));
  }

  async run(signature: string, inputs: Record<string, Values>): Promise<Record<string, Values>> {
    const given = Object.entries(inputs).map(([name, { data, shape }]) => [name, new Tensor(data, shape)] as const);
    const answers = await this.model.signatures[signature]!.run(Object.fromEntries(given));
    const values = (tensor: Tensor) => ({ data: tensor.toTypedArray().slice(), shape: [...tensor.type.layout.dimensions] });
    const found = Object.entries(answers).map(([name, tensor]) => [name, values(tensor) as Values] as const);
    for (const [, tensor] of [...given, ...Object.entries(answers)]) tensor.delete(); // none frees itself
    return Object.fromEntries(found);
  }

  close(): void {
    this.model.delete();
  }
}
